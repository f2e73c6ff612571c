"""Serve on Daphne."""

import asyncio
from typing import Any

from connections.conf import Tunables
from connections.node.current import ensure_node
from connections.server.serve import MAX_FRAME_BYTES, Ready, drain, refuse_success, wait_for_stop
from connections.server.slow_requests import limit_daphne


def serve_daphne(app: Any, host: str, port: int, values: Tunables, name: str, ready: Ready) -> None:
    """Serve until the process is asked to stop, drain, and return. `ready` is awaited once the port is open.

    Raises OSError if the port can't be had, and CommandError if the node could not work.
    """
    from daphne.server import Server, twisted_loop
    from twisted.internet import reactor

    errors: list[BaseException] = []

    async def live() -> None:
        try:
            limit_daphne(server.http_factory, values.handshake_seconds + values.admission_seconds)
            node = await ensure_node(name)
            await _listening(server)
            await ready(node)
            await wait_for_stop(node)
            await drain(node)
            refuse_success(node)
        except Exception as error:  # noqa: BLE001 - raised below, when the reactor has ended
            errors.append(error)
        finally:
            await _stop(server, twisted_loop)

    server = Server(
        application=app,
        ready_callable=lambda: twisted_loop.call_soon(_start, twisted_loop, live()),
        **_options(host, port, values),
    )
    assert reactor is not None  # imported for its side effect: Daphne's loop is the reactor's
    server.run()
    if errors:
        raise errors[0]


def _options(host: str, port: int, values: Tunables) -> dict[str, Any]:
    from daphne.endpoints import build_endpoint_description_strings

    handshake = values.handshake_seconds + values.admission_seconds
    return {
        "endpoints": build_endpoint_description_strings(host=host, port=port),
        "signal_handlers": False,
        # Autobahn cuts its timers to whole seconds, so one more keeps it from closing the living. Daphne looks only
        # every other second, so it asks that much earlier.
        "ping_interval": max(values.heartbeat_seconds - 1, values.heartbeat_seconds / 2),
        "ping_timeout": values.pong_seconds + 1,
        "websocket_timeout": -1,  # no end after 24 h
        "websocket_connect_timeout": handshake,
        "websocket_handshake_timeout": handshake,
        "websocket_max_message_size": MAX_FRAME_BYTES,
        "websocket_max_frame_size": MAX_FRAME_BYTES,
        "server_name": "recovery-console",
        "verbosity": 0,
    }


def _start(loop: asyncio.AbstractEventLoop, live: Any) -> None:
    _tasks.add(loop.create_task(live, name="connections-serve"))


_tasks: set[Any] = set()  # the loop keeps only weak references


async def _stop(server: Any, loop: asyncio.AbstractEventLoop) -> None:
    for listener in server.listeners:
        await _stop_listening(listener)
    # Daphne raises KeyError for a connection in the middle of its handshake, and then cancels no application.
    for details in server.connections.values():
        details.setdefault("application_instance", _done(loop))
    server.stop()


def _done(loop: asyncio.AbstractEventLoop) -> "asyncio.Future[None]":
    future: asyncio.Future[None] = loop.create_future()
    future.set_result(None)
    return future


async def _listening(server: Any) -> None:
    """Return once Daphne listens. Raises OSError when it could not."""
    for _ in range(200):
        if server.listening_addresses:
            return
        if server.abort_start:
            break
        await asyncio.sleep(0.01)
    raise OSError("the address is in use, or may not be listened on")


async def _stop_listening(listener: Any) -> None:
    """Stop accepting. `listener` is a Twisted deferred: its result is a port, or an error that was reported."""
    port: Any = getattr(listener, "result", None)
    if hasattr(port, "stopListening"):
        stopped = port.stopListening()
        if stopped is not None:
            await stopped.asFuture(asyncio.get_running_loop())
