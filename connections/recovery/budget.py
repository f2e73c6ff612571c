"""How long a round may last. Its work is done in steps, and what is left goes on in the next round."""

import time
from collections.abc import Callable


class Budget:
    """The seconds that a round, or one step of it, may take from now. Each step does one slice in any case, and further
    slices only while its budget lasts.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or time.monotonic
        self._until = self._clock() + seconds

    @property
    def spent(self) -> bool:
        return self._clock() >= self._until

    def share(self, steps: int) -> "Budget":
        """The budget of one of so many steps that are still to do."""
        return Budget(max(0.0, self._until - self._clock()) / steps, self._clock)
