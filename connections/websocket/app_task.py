"""The task of one socket's application: it ends by itself, when it is cancelled, or never."""

import asyncio
from collections.abc import Callable

from connections.websocket.asgi_types import App, Receive, Scope, Send

CANCEL_SECONDS = 2.0  # for a cancelled application to end; then it is abandoned


class AppTask:
    def __init__(
        self, app: App, scope: Scope, receive: Receive, send: Send, *, name: str, on_end: Callable[[], None]
    ) -> None:
        """Start the application at once. `on_end` is called when it has ended in any way."""
        self._task = asyncio.create_task(_call(app, scope, receive, send), name=name)
        self._task.add_done_callback(lambda _: on_end())

    @property
    def done(self) -> bool:
        return self._task.done()

    @property
    def cancelled(self) -> bool:
        return self._task.cancelled()

    @property
    def error(self) -> BaseException | None:
        """The error that ended the application, its cancellation included. Only once it is done."""
        return asyncio.CancelledError() if self._task.cancelled() else self._task.exception()

    def cancel(self) -> None:
        self._task.cancel()

    async def end(self, grace_seconds: float) -> bool:
        """Wait for a grace period after the disconnect, then cancel. Returns False if the application still runs."""
        if not self.done:
            await asyncio.wait({self._task}, timeout=grace_seconds)
        if not self.done:
            self.cancel()
            await asyncio.wait({self._task}, timeout=CANCEL_SECONDS)
        return self.done


async def _call(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)
