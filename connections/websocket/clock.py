"""A node's own clock: seconds that stand still while the process slept.

A process that was stopped, or stood in a long garbage collection, has not listened, so its clients' silence says
nothing. Its late tick moves every deadline by its lateness, at once, by moving this clock.
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
        """Note one tick of a timer of `period` seconds. False if it came late by more than half of that: then
        nobody may be judged now, and the lateness is taken out of this clock.
        """
        real = time.monotonic()
        late = 0.0 if self._expected is None else real - self._expected
        self._expected = real + period
        if late <= period / 2:
            return True
        self._slept += late
        return False
