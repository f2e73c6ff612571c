"""Durations, counts and User-Agents in words."""

import pytest

from connections.policy.wording import count_of, duration, in_short, rounded_duration

MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/19.0 Safari/605.1.15"
EDGE = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0"
ANDROID = "Mozilla/5.0 (Linux; Android 16; Pixel 9) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Version/17.0 Safari/604.1"
LINUX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0.9, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (7200, "2 h"), (90000, "1 d")],
)
def test_durations_are_rounded_down(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"), (0.4, "0 s"), (89, "89 s"), (90, "2 min"), (240, "4 min"), (5399, "90 min"), (7200, "2 h"),
        (172_799, "48 h"), (200_000, "2 d"),
    ],
)  # fmt: skip
def test_durations_are_rounded_to_the_nearest_unit(seconds: float, text: str) -> None:
    assert rounded_duration(seconds) == text


def test_counts() -> None:
    assert [count_of(n, "manager") for n in (0, 1, 1200)] == ["0 managers", "1 manager", "1200 managers"]


@pytest.mark.parametrize(
    ("user_agent", "short"),
    [
        (MAC, "Safari on a Mac"),
        (EDGE, "Edge on Windows"),
        (ANDROID, "Chrome on Android"),
        (IPHONE, "Safari on an iPhone"),
        (LINUX, "Firefox on Linux"),
        ("Python/3.11 websockets/17.4", "Python/3.11 websockets/17.4"),
        ("x" * 100, "x" * 40),
        ("", "An unknown browser"),
    ],
)
def test_a_user_agent_is_shown_as_browser_and_system(user_agent: str, short: str) -> None:
    assert in_short(user_agent) == short
