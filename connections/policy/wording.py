"""Times, durations, counts and User-Agents in words, for pages, commands and the chat. Pure."""

from datetime import UTC, datetime

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400

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


def clock_time(moment: datetime) -> str:
    """The time of day of an aware datetime, whatever its zone: `14:05:09 UTC`."""
    return f"{moment.astimezone(UTC):%H:%M:%S} UTC"


def duration(seconds: float) -> str:
    """A duration in its largest whole unit: `12 s`, `4 min`, `3 h`, `2 d`. Rounded down, never negative."""
    seconds = max(0.0, seconds)
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def rounded_duration(seconds: float) -> str:
    """A duration rounded to the nearest unit, which changes at 90 s, 90 min and 2 d: `89 s`, `2 min`, `47 h`, `2 d`."""
    if seconds < 1.5 * _MINUTE:
        return f"{max(0, round(seconds))} s"
    if seconds < 1.5 * _HOUR:
        return f"{round(seconds / _MINUTE)} min"
    return f"{round(seconds / _HOUR)} h" if seconds < 2 * _DAY else f"{round(seconds / _DAY)} d"


def plural(number: int, noun: str) -> str:
    """The noun alone, as the number asks for it: `manager` for 1, else `managers`."""
    return noun if number == 1 else f"{noun}s"


def count_of(number: int, noun: str) -> str:
    """`1 manager`, `17 managers`."""
    return f"{number} {plural(number, noun)}"


def in_short(user_agent: str) -> str:
    """Browser and system, as the client claims them: `Firefox on Linux`. For an unknown browser, the text's start."""
    browser = next((name for token, name in _BROWSERS if token in user_agent), "")
    system = next((name for token, name in _SYSTEMS if token in user_agent), "")
    if not browser:
        return user_agent.strip()[:_LONGEST] or "An unknown browser"
    return f"{browser} on {system}" if system else browser
