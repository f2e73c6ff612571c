"""Find the transport behind an ASGI `send`, its backlog, and how to abort it, and tell when the server stops. Only this
module tells Daphne from uvicorn.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from connections.websocket.asgi_types import Message

# Iterations of the event loop from a frame in the kernel to its manager: 3 on Daphne and on uvicorn, 5 with uvicorn's
# older implementation of WebSockets, which `serve` uses. The rest is for middleware with a queue of its own.
LISTEN_ITERATIONS = 10

SERVICE_RESTART = 1012  # the code with which uvicorn closes all connections when it stops


def abort_of(send: Any) -> Callable[[], None] | None:
    """A function that aborts the connection behind the server's own `send`, or None on an unknown server.

    It is needed for a client that has stopped reading: there an orderly close blocks for ever.
    """
    protocol = _protocol(send)
    if protocol is None:
        return None
    transport = getattr(protocol, "transport", None)
    for name in ("abortConnection", "abort"):  # Twisted's name, asyncio's name
        abort = getattr(transport, name, None)
        if abort is not None:
            return abort  # type: ignore[no-any-return]  # both take no arguments and give nothing
    return None


def backlog_of(send: Any) -> Callable[[], int] | None:
    """A function that returns how many bytes the transport still has to send, or None on an unknown server."""
    transport = getattr(_protocol(send), "transport", None)
    measure = getattr(transport, "get_write_buffer_size", None)
    if measure is not None:  # asyncio, under uvicorn
        return lambda: int(measure())
    if hasattr(transport, "_tempDataLen"):  # Twisted keeps unwritten bytes in two places
        return lambda: _twisted_backlog(transport)
    return None


def _twisted_backlog(transport: Any) -> int:
    return len(transport.dataBuffer) - int(transport.offset) + int(transport._tempDataLen)


async def read_what_has_come() -> None:
    """Let the event loop read every frame that has reached the kernel by now, and its manager see it."""
    for _ in range(LISTEN_ITERATIONS):
        await asyncio.sleep(0)


def is_server_stop(send: Any, disconnect: Message) -> bool:
    """Whether the server has ended the connection because it stops, which only uvicorn reports.

    A client may close with the same code. Then uvicorn reports the client's close reason too, if only an empty one; and
    on Daphne, of whose protocols Autobahn keeps the client's code, it is always the client's.
    """
    if disconnect.get("code") != SERVICE_RESTART or "reason" in disconnect:
        return False
    return not hasattr(_protocol(send), "remoteCloseCode")


def call_on_stop(callback: Callable[[], object]) -> None:
    """Have `callback` called when Daphne begins to stop, before it cancels its applications. uvicorn says so to each
    connection: see `is_server_stop`.
    """
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is not None:  # an imported reactor that does not run never stops
        reactor.addSystemEventTrigger("before", "shutdown", callback)


def _protocol(send: Any) -> Any:
    # Daphne: functools.partial(server.handle_reply, protocol); uvicorn: a bound method of its protocol.
    arguments = getattr(send, "args", None)
    if arguments and hasattr(arguments[0], "transport"):
        return arguments[0]
    owner = getattr(send, "__self__", None)
    if hasattr(owner, "transport"):
        return owner
    # Channels' session middleware wraps `send`, and keeps the wrapped one under this name.
    inner = getattr(owner, "real_send", None)
    return None if inner is None else _protocol(inner)
