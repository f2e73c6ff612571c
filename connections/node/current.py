"""The node of this process. A process becomes a node at its first WebSocket; `serve` makes it one at its start."""

import os
import socket
from collections.abc import Callable

from connections.conf import tunables
from connections.node.runtime import NodeRuntime

_node: NodeRuntime | None = None
_on_start: list[Callable[[NodeRuntime], None]] = []


def on_node_start(callback: Callable[[NodeRuntime], None]) -> None:
    """Have `callback(node)` called, on the event loop, whenever this process becomes a node. For AppConfig.ready."""
    _on_start.append(callback)


def current_node() -> NodeRuntime | None:
    """The node that this process is, or None."""
    return _node


async def ensure_node(name: str = "") -> NodeRuntime:
    """This process's node, made and started now if there is none on this event loop."""
    global _node  # noqa: PLW0603 - a process is one node
    if _node is None or _node.loop.is_closed():
        values = tunables()
        default = f"{socket.gethostname()}-{os.getpid()}"
        _node = NodeRuntime(values, values.node_name or name or default)
        await _node.start()
        for callback in _on_start:
            callback(_node)
    return _node
