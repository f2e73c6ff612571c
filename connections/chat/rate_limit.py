"""The frame rate of one socket. Pure."""

from collections import deque


class FrameRate:
    """At most `most` frames in any second. Seconds are the caller's, from any steady clock."""

    def __init__(self, most: int) -> None:
        self._times: deque[float] = deque(maxlen=most)

    def allows(self, now: float) -> bool:
        """Count a frame that came at `now`; False if it is one too many."""
        full = len(self._times) == self._times.maxlen
        allowed = not (full and now - self._times[0] < 1.0)
        self._times.append(now)
        return allowed
