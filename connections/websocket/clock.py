"""A node's own clock, which leaves out the time for which the process was stalled.

A process that was stopped, or was in a long garbage collection, has neither read from its sockets nor written to them,
so for that time its clients' silence proves nothing. The first tick afterwards is late. It sets this clock back by that
lateness, which moves all deadlines. So each tick moves this clock on by at least a period, however late the ticks are.
"""

import time


class NodeClock:
    def __init__(self) -> None:
        self._stalled_seconds = 0.0
        self._expected: float | None = None

    def now(self) -> float:
        """Seconds from an arbitrary start; only differences mean anything."""
        return time.monotonic() - self._stalled_seconds

    def until_tick(self) -> float:
        """Seconds from now to the next tick that is on time; 0 if it is over, or if there was no tick yet."""
        return 0.0 if self._expected is None else max(0.0, self._expected - time.monotonic())

    def tick(self, period: float) -> bool:
        """Record one tick of a timer of `period` seconds. If it is late by more than half a period, set this clock back
        by the lateness and return False: times that were recorded before this tick may lie ahead of the clock.
        """
        real = time.monotonic()
        late = 0.0 if self._expected is None else real - self._expected
        self._expected = real + period
        if late <= period / 2:
            return True
        self._stalled_seconds += late
        return False
