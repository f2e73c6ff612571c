"""Tell nodes that there is something in their rows. From any thread and any process; never needed for correctness."""

import logging
from typing import Any, Protocol
from uuid import UUID

from asgiref.sync import async_to_sync
from channels.layers import InMemoryChannelLayer, get_channel_layer

from connections.bus import SESSIONS, ring_once

logger = logging.getLogger(__name__)


class Ringer(Protocol):
    """A node, as this module uses it."""

    def ring(self, node_ids: set[UUID] | None = None) -> None: ...
    def logged_out(self, user_id: Any) -> None: ...


_ringer: Ringer | None = None


def use(ringer: Ringer) -> None:
    """This process has become a node, and rings through it."""
    global _ringer  # noqa: PLW0603 - a process is one node
    _ringer = ringer


def ring(node_ids: set[UUID] | None = None) -> None:
    """Ring these nodes, or all. Best effort: the next beat of each comes anyway."""
    if _ringer is not None:
        _ringer.ring(node_ids)
    elif _others_may_hear():
        async_to_sync(ring_once)(node_ids)


def logged_out(user_id: Any) -> None:
    """Have all nodes look at the user's sessions now. Best effort: a reconcile comes anyway."""
    if _ringer is not None:
        _ringer.logged_out(user_id)
    elif _others_may_hear():
        async_to_sync(ring_once)(None, SESSIONS, {"user": str(user_id)})


def _others_may_hear() -> bool:
    return not isinstance(get_channel_layer(), InMemoryChannelLayer | None)
