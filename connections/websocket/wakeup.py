"""Let one task wait until a condition holds that other code on its event loop changes."""

import asyncio
from collections.abc import Callable


class Wakeup:
    """Costs one future while a task waits. An asyncio.Event takes 1 KiB, and thousands of sockets wait at a time."""

    __slots__ = ("_happened",)

    def __init__(self) -> None:
        self._happened: asyncio.Future[None] | None = None

    def notify(self) -> None:
        """Have the waiting task check its condition again."""
        if self._happened is not None and not self._happened.done():
            self._happened.set_result(None)

    async def until(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait until the condition holds; it is checked at each `notify`. Returns False if time ran out first."""
        if seconds is None:
            await self._until(condition)
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._until(condition)
        except TimeoutError:
            return condition()
        return True

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._happened = asyncio.get_running_loop().create_future()
            try:
                await self._happened
            finally:
                self._happened = None
