"""User-Agents in short."""

import pytest

from connections.policy.wording import in_short

MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/19.0 Safari/605.1.15"
EDGE = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0"
ANDROID = "Mozilla/5.0 (Linux; Android 16; Pixel 9) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Version/17.0 Safari/604.1"
LINUX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


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
def test_the_browser_and_the_system(user_agent: str, short: str) -> None:
    assert in_short(user_agent) == short
