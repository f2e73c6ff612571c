"""The frame rate of one socket. Pure."""

from collections import deque


class FrameRate:
    """Allows at most `most` frames in any second. The caller passes the time, from any monotonic clock."""

    def __init__(self, most: int) -> None:
        self._times: deque[float] = deque(maxlen=most)

    def allows(self, now: float) -> bool:
        """Count a frame that came at `now`. Returns False if it is over the limit."""
        full = len(self._times) == self._times.maxlen
        allowed = not (full and now - self._times[0] < 1.0)
        self._times.append(now)
        return allowed
