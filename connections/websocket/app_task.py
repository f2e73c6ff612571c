"""The task of one socket's application. It may return, be cancelled, or ignore its cancellation."""

import asyncio
from collections.abc import Callable

from connections.websocket.asgi_types import App, Receive, Scope, Send

CANCEL_SECONDS = 2.0  # the time a cancelled application has to end; then its task is abandoned


class AppTask:
    def __init__(
        self, app: App, scope: Scope, receive: Receive, send: Send, *, name: str, on_end: Callable[[], None]
    ) -> None:
        """Start the application. `on_end` is called when it has returned, failed or been cancelled."""
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
        """The exception that ended the application, CancelledError included. Raises if the application still runs."""
        return asyncio.CancelledError() if self._task.cancelled() else self._task.exception()

    def cancel(self) -> None:
        self._task.cancel()

    async def end(self, grace_seconds: float) -> bool:
        """Wait for the application for `grace_seconds`, then cancel it. Returns False if it still runs after that."""
        if not self.done:
            await asyncio.wait({self._task}, timeout=grace_seconds)
        if not self.done:
            self.cancel()
            await asyncio.wait({self._task}, timeout=CANCEL_SECONDS)
        return self.done


async def _call(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)
