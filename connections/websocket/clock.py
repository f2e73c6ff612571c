"""A node's own clock, which stands still while the process is stalled.

A process that was stopped, or stood in a long garbage collection, has not listened, so its clients' silence proves
nothing. Its first tick afterwards comes late, and moves all deadlines by that lateness, by setting this clock back.
"""

import time


class NodeClock:
    def __init__(self) -> None:
        self._slept = 0.0
        self._expected: float | None = None

    def now(self) -> float:
        """Seconds; only differences mean anything."""
        return time.monotonic() - self._slept

    def tick(self, period: float) -> bool:
        """Note one tick of a timer of `period` seconds. Returns False if it came late by more than half a period: then
        no client may be judged now, and this clock is set back by the lateness.
        """
        real = time.monotonic()
        late = 0.0 if self._expected is None else real - self._expected
        self._expected = real + period
        if late <= period / 2:
            return True
        self._slept += late
        return False
