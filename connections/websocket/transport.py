"""The only file that knows Daphne from uvicorn: the transport behind an ASGI `send`, and how to abort it."""

from collections.abc import Callable
from typing import Any


def abort_of(send: Any) -> Callable[[], None] | None:
    """A function that drops the connection behind the server's own `send` at once, or None on an unknown server.

    Needed for a client that has stopped reading: there an orderly close blocks for ever.
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
    """A function that tells how many outbound bytes the client has not taken yet, or None where nobody knows."""
    transport = getattr(_protocol(send), "transport", None)
    measure = getattr(transport, "get_write_buffer_size", None)
    if measure is not None:  # asyncio, under uvicorn
        return lambda: int(measure())
    if hasattr(transport, "_tempDataLen"):  # Twisted keeps what is not written in two places
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
    # Channels' session middleware stands in between and keeps the server's own under this name.
    inner = getattr(owner, "real_send", None)
    return None if inner is None else _protocol(inner)
