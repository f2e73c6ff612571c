"""A User-Agent in words: the browser and the system, as the client claims them."""

# The first match counts: Edge and Opera also name Chrome, and Chrome names Safari, so the borrowed names come last.
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("AppleWebKit/", "WebKit"),
)
_SYSTEMS = (
    ("iPhone", "an iPhone"),
    ("iPad", "an iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("CrOS", "ChromeOS"),
    ("Mac OS X", "a Mac"),
    ("Linux", "Linux"),
)
_LONGEST = 40  # characters shown of an unknown User-Agent: enough for a name and a version


def in_short(user_agent: str) -> str:
    """`Firefox on Linux`; for what is no known browser, the beginning of what it says."""
    browser = next((name for token, name in _BROWSERS if token in user_agent), "")
    system = next((name for token, name in _SYSTEMS if token in user_agent), "")
    if not browser:
        return user_agent.strip()[:_LONGEST] or "An unknown browser"
    return f"{browser} on {system}" if system else browser
