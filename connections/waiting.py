"""One task that waits for a condition which others on its event loop bring about."""

import asyncio
from collections.abc import Callable


class Waiter:
    def __init__(self) -> None:
        self._happened = asyncio.Event()

    def notify(self) -> None:
        """Something has happened: whoever waits looks again."""
        self._happened.set()

    async def until(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait for a condition, looked at whenever something has happened. False if time ran out before it held."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._happened.clear()
                    await self._happened.wait()
        except TimeoutError:
            return condition()
        return True
