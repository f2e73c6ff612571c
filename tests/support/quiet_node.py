"""A node without threads and sockets: its real parts, with managers that stand for rows, for tests of its rounds."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User

from connections import database
from connections.conf import Tunables
from connections.models import ManagerRecord, Node
from connections.node.keepalive import Keepalive
from connections.node.limiter import ConnectLimiter
from connections.node.manager_host import ManagerHost
from connections.node.parts import Identity, NodeParts
from connections.policy.admission import Admission, Handshake
from connections.policy.states import CloseReason, RecordState
from connections.records.writer import Writer
from connections.recovery.budget import Budget
from connections.websocket.clock import NodeClock
from connections.websocket.manager import Manager
from connections.websocket.registry import Registry


class QuietNode:
    """The parts of a node whose row is `row`. Its event loop runs only in `turn_loop`."""

    def __init__(self, row: Node, loop: asyncio.AbstractEventLoop, **values: Any) -> None:
        tunables = replace(Tunables(), **values)
        clock, registry = NodeClock(), Registry()
        self.row = row
        self.parts = NodeParts(
            Identity(row.name, row.pk),
            tunables,
            loop,
            clock,
            registry,
            limiter=ConnectLimiter(tunables, registry),
            keepalive=Keepalive(registry, clock, tunables),
            writer=Writer(tunables, lambda _: None),
        )
        self._host = ManagerHost(self.parts, on_probe_answered=lambda: None)

    def turn_loop(self) -> None:
        """Let the event loop make the calls that were left to it."""
        self.parts.loop.run_until_complete(asyncio.sleep(0))

    def manage(self, record: ManagerRecord, *, session_key: str = "", session_hash: str = "") -> Manager:
        """Register a manager for a record, admitted and accepted, with a client that has just sent something."""
        manager = Manager(
            self._host,
            {"type": "websocket"},
            _nothing,
            _ignore,
            handshake=Handshake(record.pk, record.user_id, record.pool, session_key=session_key),
            inject=False,
        )
        manager.admission = Admission(live=1, soft_limit=20, ceiling=25)
        manager.accepted, manager.session_hash = True, session_hash
        self.parts.registry.add(manager)
        return manager

    def manage_all(self, records: Sequence[ManagerRecord]) -> list[Manager]:
        return [self.manage(record) for record in records]


async def _nothing() -> dict[str, Any]:
    """A client that sends nothing."""
    await asyncio.Event().wait()
    return {}


async def _ignore(message: Any) -> None:
    """A server that takes every frame."""


@contextmanager
def quiet_node(row: Node, **values: Any) -> Iterator[QuietNode]:
    loop = asyncio.new_event_loop()
    try:
        yield QuietNode(row, loop, **values)
    finally:
        loop.close()


def spent(_: float) -> Budget:
    """A budget that is spent at once: every step of a round does one slice."""
    return Budget(0.0, lambda: 0.0)


def bulk_records(count: int, user: User | None, node: Node, **fields: Any) -> list[ManagerRecord]:
    """Live records, opened a minute ago: many in one statement."""
    opened = database.now() - timedelta(seconds=60)
    times = {"opened_at": opened, "accepted_at": opened, "last_active_at": opened}
    return ManagerRecord.objects.bulk_create(
        [ManagerRecord(user=user, pool="chat", node=node, **times | fields) for _ in range(count)], batch_size=500
    )


def closing_fields(reason: str = CloseReason.RESET) -> dict[str, Any]:
    """The fields of a record whose close somebody has ordered."""
    return {"state": RecordState.CLOSING, "closing_at": database.now(), "close_reason": reason, "evidence": "a reset"}
