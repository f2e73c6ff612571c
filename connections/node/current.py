"""Which node this process is: one from its first WebSocket on, whoever started it, and under `serve` from the start."""

import os
import socket
from collections.abc import Callable

from connections.conf import tunables
from connections.node.runtime import NodeRuntime

_node: NodeRuntime | None = None
_begun_with: list[Callable[[], None]] = []


def begin_with(callback: Callable[[], None]) -> None:
    """Have this called, on the event loop, whenever this process becomes a node."""
    _begun_with.append(callback)


def current_node() -> NodeRuntime | None:
    """The node that this process is, if it is one."""
    return _node


async def ensure_node(name: str = "") -> NodeRuntime:
    """This process as a node, made one now if need be."""
    global _node  # noqa: PLW0603 - a process is one node
    if _node is None or _node.loop.is_closed():
        values = tunables()
        default = f"{socket.gethostname()}-{os.getpid()}"
        _node = NodeRuntime(values, values.node_name or name or default)
        await _node.start()
        for callback in _begun_with:
            callback()
    return _node
