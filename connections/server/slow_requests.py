"""Time out requests that arrive too slowly (slowloris).

Within `seconds`, Daphne must have the whole request, and uvicorn its headers. By themselves, Daphne waits a minute
after each line, and uvicorn for ever.
"""

import asyncio
import logging
from typing import Any

logger = logging.getLogger(__name__)


def limit_daphne(factory: Any, seconds: float) -> None:
    """Limit all connections that this Daphne factory makes from now on."""
    from daphne.http_protocol import WebRequest
    from twisted.internet import reactor

    clock: Any = reactor

    class Request(WebRequest):  # type: ignore[misc]  # Daphne has no types
        """A request exists from its first line on, and `process` is called when it is complete."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._timer: Any = clock.callLater(seconds, self._cut)

        def process(self) -> Any:
            self._stop_timer()
            return super().process()

        def connectionLost(self, reason: Any) -> None:  # noqa: N802 - Twisted's name
            self._stop_timer()
            super().connectionLost(reason)

        def _stop_timer(self) -> None:
            if self._timer.active():
                self._timer.cancel()

        def _cut(self) -> None:
            logger.info("request_too_slow", extra={"seconds": seconds})
            self.channel.transport.abortConnection()

    build = factory.buildProtocol

    def build_limited(address: Any) -> Any:
        channel = build(address)
        channel.requestFactory = Request
        return channel

    factory.timeOut = seconds  # until a first line
    factory.buildProtocol = build_limited


def limited_uvicorn(seconds: float) -> type[asyncio.Protocol]:
    """A protocol class for uvicorn's `http` option."""
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    class Protocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]  # which class it is depends on what is installed
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def handle_websocket_upgrade(self, *args: Any) -> None:
            self._stop_timer()
            super().handle_websocket_upgrade(*args)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def _watch(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_timer()  # the head of the request is complete
            elif self._timer is None and self.transport.get_protocol() is self:  # not after an upgrade
                self._timer = self.loop.call_later(seconds, self._cut)

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _cut(self) -> None:
            logger.info("request_too_slow", extra={"seconds": seconds})
            self.transport.abort()

    return Protocol
