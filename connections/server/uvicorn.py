"""Serve on uvicorn."""

import asyncio
import contextlib
from typing import Any, cast

import uvicorn
from uvicorn.protocols.websockets.websockets_impl import WebSocketProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from connections.conf import Tunables
from connections.node.current import ensure_node
from connections.server.serve import FINISH_SECONDS, MAX_FRAME_BYTES, Ready, drain, refuse_success, wait_for_stop
from connections.server.slow_requests import limited_uvicorn
from connections.websocket.closing import CLOSE_SECONDS
from connections.websocket.transport import read_what_has_come

PONG_STEPS = 10  # a stall of the process takes one step at most, so a tenth of the time that a client has for its pong


class Protocol(WebSocketProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Its library waits 10 s for the close of a client that answers no ping, and only then reports it gone.
        self.close_timeout = CLOSE_SECONDS

    async def keepalive_ping(self) -> None:
        """Ping as the library does. But after a stall of the process the library closes clients whose pong lies unread;
        this reads first, and leaves the stall out of a client's time.
        """
        if self.ping_interval is None or self.ping_timeout is None:
            return
        with contextlib.suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(self.ping_interval)
                pong = cast("asyncio.Future[float]", await self.ping())
                for _ in range(PONG_STEPS):
                    if not pong.done():
                        await asyncio.wait({pong}, timeout=self.ping_timeout / PONG_STEPS)
                if not pong.done():
                    await read_what_has_come()
                if not pong.done():
                    # The library ends it with an error, which asyncio would log if nobody took it.
                    pong.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
                    self.fail_connection(CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
                    return
                await pong


class Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        """Leave the signals to us: uvicorn would close the sockets before they are drained."""
        return contextlib.nullcontext()


def serve_uvicorn(app: Any, host: str, port: int, values: Tunables, name: str, ready: Ready) -> None:
    """Serve until the process is asked to stop, drain, and return. `ready` is awaited once the port is open.

    Raises OSError if the port can't be had, and CommandError if the node could not work.
    """
    asyncio.run(_live(_config(app, host, port, values), name, ready))


def _config(app: Any, host: str, port: int, values: Tunables) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # uvicorn would believe anybody on loopback; CONNECTIONS_TRUSTED_PROXIES says whom we do
        http=limited_uvicorn(values.handshake_seconds + values.admission_seconds),
        ws=Protocol,
        ws_ping_interval=values.heartbeat_seconds,
        ws_ping_timeout=values.pong_seconds,
        ws_max_size=MAX_FRAME_BYTES,
        timeout_graceful_shutdown=round(FINISH_SECONDS),
    )


async def _live(config: uvicorn.Config, name: str, ready: Ready) -> None:
    server = Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    if serving.done():
        await serving
        raise OSError("the address is in use, or may not be listened on")
    node = await ensure_node(name)
    await ready(node)
    stop = asyncio.create_task(wait_for_stop(node))
    await asyncio.wait({stop, serving}, return_when=asyncio.FIRST_COMPLETED)
    await drain(node)
    server.should_exit = True
    await serving
    refuse_success(node)
