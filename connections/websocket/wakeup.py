"""One task that waits for a condition which others on its event loop bring about."""

import asyncio
from collections.abc import Callable


class Wakeup:
    """Thousands of them wait at a time: one future each while they do, where an asyncio.Event has 1 KiB."""

    __slots__ = ("_happened",)

    def __init__(self) -> None:
        self._happened: asyncio.Future[None] | None = None

    def notify(self) -> None:
        """Something has happened: whoever waits looks again."""
        if self._happened is not None and not self._happened.done():
            self._happened.set_result(None)

    async def until(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait for a condition, looked at whenever something has happened. False if time ran out before it held."""
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
