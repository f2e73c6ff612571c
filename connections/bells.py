"""Tell nodes that there is something in their rows. From any thread and any process; never needed for correctness."""

import logging
from collections.abc import Callable
from uuid import UUID

from asgiref.sync import async_to_sync
from channels.layers import InMemoryChannelLayer, get_channel_layer

logger = logging.getLogger(__name__)

Ringer = Callable[[set[UUID] | None], None]
_ringer: Ringer | None = None


def use(ringer: Ringer) -> None:
    """This process has become a node, and rings through it."""
    global _ringer  # noqa: PLW0603 - a process is one node
    _ringer = ringer


def ring(node_ids: set[UUID] | None = None) -> None:
    """Ring these nodes, or all. Best effort: the next beat of each comes anyway."""
    if _ringer is not None:
        _ringer(node_ids)
    elif not isinstance(get_channel_layer(), InMemoryChannelLayer | None):  # else nobody outside would hear it
        from connections.bus import ring_once

        async_to_sync(ring_once)(node_ids)
