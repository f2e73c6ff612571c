"""Find the transport behind an ASGI `send`, its backlog, and how to abort it. Only this module tells Daphne from
uvicorn.
"""

from collections.abc import Callable
from typing import Any


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
