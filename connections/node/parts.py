"""The objects that the parts of one node share."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from connections.conf import Tunables
from connections.node.keepalive import Keepalive
from connections.node.limiter import ConnectLimiter
from connections.policy.states import CloseReason
from connections.records.writer import Writer
from connections.websocket.clock import NodeClock
from connections.websocket.manager import Manager
from connections.websocket.registry import Registry

logger = logging.getLogger(__name__)

CloseOrder = tuple[Manager, CloseReason, str]  # the manager, why, and the evidence
LOOP_SLICE = 200  # calls that the event loop makes in one go, for which its sockets wait some milliseconds


@dataclass(slots=True)
class Identity:
    """The name and the row id under which other nodes know this process."""

    name: str
    id: UUID | None = None  # of its row; None until it has a lease, and between a fence and the next registration
    leaving: bool = False  # it drains: it admits nobody and takes no new identity
    failing: str = ""  # why it can't work: it admits nobody; empty while it works


@dataclass(slots=True)
class NodeParts:
    """The objects of which a node has one each. Its methods may be used from any thread."""

    identity: Identity
    tunables: Tunables
    loop: asyncio.AbstractEventLoop
    clock: NodeClock
    registry: Registry
    limiter: ConnectLimiter
    keepalive: Keepalive
    writer: Writer

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have the event loop call `function`. Does nothing once the loop is closed."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(function, *arguments)

    def call_each(self, function: Callable[..., object], calls: Sequence[tuple[Any, ...]]) -> None:
        """Have the event loop call `function` with each of these arguments, in few steps that let others in between."""
        for start in range(0, len(calls), LOOP_SLICE):
            self.call(_call_each, function, calls[start : start + LOOP_SLICE])

    def order_close(self, manager: Manager, reason: CloseReason, evidence: str) -> None:
        """Close a manager from another thread."""
        self.call(manager.order_close, reason, evidence)

    def order_closes(self, orders: Sequence[CloseOrder]) -> None:
        """Close many managers from another thread."""
        self.call_each(Manager.order_close, orders)


def _call_each(function: Callable[..., object], calls: Sequence[tuple[Any, ...]]) -> None:
    for arguments in calls:
        try:
            function(*arguments)
        except Exception:  # an error of one manager must not keep the others
            logger.exception("call_failed", extra={"call": function.__qualname__})
