"""What a User-Agent says to people: the browser and the system. Pure. It is only the client's claim."""

# The first that is found: the names that others borrow (Chrome, Safari) come after those that borrow them.
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
_LONGEST = 40  # characters shown of what is no known browser: a name and a version


def in_short(user_agent: str) -> str:
    """`Firefox on Linux`; for what is no known browser, the beginning of what it says."""
    browser = next((name for token, name in _BROWSERS if token in user_agent), "")
    system = next((name for token, name in _SYSTEMS if token in user_agent), "")
    if not browser:
        return user_agent.strip()[:_LONGEST] or "An unknown browser"
    return f"{browser} on {system}" if system else browser
