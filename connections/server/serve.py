"""Running the production server: this process owns the signals, and drains before the server may end anything."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from connections.conf import Tunables
from connections.node.current import ensure_node
from connections.node.runtime import NodeRuntime
from connections.server import gc_freeze
from connections.server.slow_requests import limit_daphne, limited_uvicorn
from connections.websocket.closing import GOODBYE_SECONDS

logger = logging.getLogger(__name__)

MAX_FRAME_BYTES = 1024 * 1024  # over it the server itself may cut; the chat's own bound is 64 KiB
FINISH_SECONDS = 1.5  # for HTTP responses under way, after the drain

Ready = Callable[[NodeRuntime], Awaitable[None]]


async def _until_told(node: NodeRuntime) -> None:
    """Until SIGTERM, SIGINT, or somebody's wish in the node's row."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    waiting = [asyncio.create_task(told.wait()), asyncio.create_task(node.drain_wanted.wait())]
    tending = asyncio.create_task(gc_freeze.tend(node.registry), name="connections-garbage")
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in (*waiting, tending):
        task.cancel()
    logger.info("node_draining", extra={"node": node.name, "managers": len(node.registry)})


def serve_daphne(app: Any, host: str, port: int, values: Tunables, name: str, ready: Ready) -> None:
    """Serve until told to stop, drain, and return. Raises OSError if the port can't be had."""
    from daphne.endpoints import build_endpoint_description_strings
    from daphne.server import Server, twisted_loop
    from twisted.internet import reactor

    trouble: list[BaseException] = []

    async def life() -> None:
        try:
            limit_daphne(server.http_factory, values.handshake_seconds + values.admission_seconds)
            node = await ensure_node(name)
            await _listening(server)
            await ready(node)
            await _until_told(node)
            await node.drain()
        except Exception as error:  # noqa: BLE001 - raised again below, when the reactor has ended
            trouble.append(error)
        finally:
            for listener in server.listeners:
                await _settled(listener)
            # Daphne raises KeyError here for whoever is in the middle of a handshake, and then cancels nobody.
            for details in server.connections.values():
                details.setdefault("application_instance", _ended(twisted_loop))
            server.stop()

    server = Server(
        application=app,
        endpoints=build_endpoint_description_strings(host=host, port=port),
        signal_handlers=False,
        # Autobahn cuts its timers to whole seconds, so one more keeps it from closing the living; and Daphne looks only
        # every other second, so it asks that much earlier.
        ping_interval=max(values.heartbeat_seconds - 1, values.heartbeat_seconds / 2),
        ping_timeout=values.pong_seconds + 1,
        websocket_timeout=-1,  # no end after 24 h
        websocket_connect_timeout=values.handshake_seconds + values.admission_seconds,
        websocket_handshake_timeout=values.handshake_seconds + values.admission_seconds,
        websocket_max_message_size=MAX_FRAME_BYTES,
        websocket_max_frame_size=MAX_FRAME_BYTES,
        server_name="recovery-console",
        verbosity=0,
        ready_callable=lambda: twisted_loop.call_soon(_start, twisted_loop, life()),
    )
    assert reactor is not None  # imported for its side effect: Daphne's loop is the reactor's
    server.run()
    if trouble:
        raise trouble[0]


def _start(loop: asyncio.AbstractEventLoop, life: Any) -> None:
    _lives.add(loop.create_task(life, name="connections-life"))


_lives: set[Any] = set()


def _ended(loop: asyncio.AbstractEventLoop) -> "asyncio.Future[None]":
    future: asyncio.Future[None] = loop.create_future()
    future.set_result(None)
    return future


async def _listening(server: Any) -> None:
    """Until Daphne listens. Raises OSError when it could not."""
    for _ in range(200):
        if server.listening_addresses:
            return
        if server.abort_start:
            break
        await asyncio.sleep(0.01)
    raise OSError("the address is in use, or may not be listened on")


async def _settled(listener: Any) -> None:
    """Stop accepting: a Twisted deferred that has given its port, or has failed and was reported."""
    port: Any = getattr(listener, "result", None)
    if hasattr(port, "stopListening"):
        stopped = port.stopListening()
        if stopped is not None:
            await stopped.asFuture(asyncio.get_running_loop())


def serve_uvicorn(app: Any, host: str, port: int, values: Tunables, name: str, ready: Ready) -> None:
    """As serve_daphne, on uvicorn."""
    import contextlib

    import uvicorn
    from uvicorn.protocols.websockets.websockets_impl import WebSocketProtocol

    class Protocol(WebSocketProtocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            # Its library waits 10 s for the close of a client that answers no ping, and only then says that it is gone.
            self.close_timeout = GOODBYE_SECONDS

    class Server(uvicorn.Server):
        def capture_signals(self) -> Any:
            return contextlib.nullcontext()  # they are ours: its own would close sockets before they are drained

    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # it would believe anybody on loopback; whom we believe is a setting
        http=limited_uvicorn(values.handshake_seconds + values.admission_seconds),
        ws=Protocol,
        ws_ping_interval=values.heartbeat_seconds,
        ws_ping_timeout=values.pong_seconds,
        ws_max_size=MAX_FRAME_BYTES,
        timeout_graceful_shutdown=round(FINISH_SECONDS),
    )

    async def life() -> None:
        server = Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        if serving.done():
            await serving
            raise OSError("the address is in use, or may not be listened on")
        node = await ensure_node(name)
        await ready(node)
        told = asyncio.create_task(_until_told(node))
        await asyncio.wait({told, serving}, return_when=asyncio.FIRST_COMPLETED)
        await node.drain()
        server.should_exit = True
        await serving

    asyncio.run(life())
