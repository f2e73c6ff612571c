"""How long a round may last. Its work is done in steps, and what is left goes on in the next round."""

import time
from collections.abc import Callable


class Budget:
    """The time of one round, in seconds from now. Whoever works in a round asks before each step whether it is over."""

    def __init__(self, seconds: float, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or time.monotonic
        self._until = self._clock() + seconds

    @property
    def over(self) -> bool:
        return self._clock() >= self._until

    def share(self, part: float) -> "Budget":
        """A budget of this part of what is left."""
        return Budget(max(0.0, self._until - self._clock()) * part, self._clock)
