"""What changed on this node since the last beat: the times of its managers, and the handshakes that it refused."""

import time
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from connections import database
from connections.models import ManagerRecord, Refusal
from connections.node.parts import NodeParts
from connections.node.turns import Turns, write_together
from connections.policy.states import Refused
from connections.recovery.budget import Budget
from connections.websocket.manager import Manager

SLICE = 200  # rows of one UPDATE: its CASE grows with them
WRITE_AFTER = 0.9  # beats since the last write: an earlier round came by a bell, and writes no changes
REFUSALS = 500  # rows of one INSERT

Facts = tuple[Any, ...]


class Changes:
    """Write the four times of each manager that changed, converted to the database's clock: once a beat."""

    def __init__(self, parts: NodeParts) -> None:
        self._parts = parts
        self._turns = Turns()
        self._wrote_at = 0.0

    def step(self, node_id: UUID, budget: Budget) -> bool:
        """Write what changed, if a beat is over or the last round left some. Returns whether some are left again."""
        now = time.monotonic()
        if not self._turns.left and now - self._wrote_at < self._parts.tunables.beat_seconds * WRITE_AFTER:
            return False
        changed = self._changed_managers()
        for some in self._turns.slices(changed, SLICE, budget):
            for pk in write_together(some, lambda ids: self._write(ids, changed, node_id)):
                manager, facts = changed[pk]
                manager.written_facts = facts  # a bad row is tried again when something of it changes
        self._wrote_at = now
        return self._turns.left

    def _changed_managers(self) -> dict[UUID, tuple[Manager, Facts]]:
        beat_ago = self._parts.clock.now() - self._parts.tunables.beat_seconds
        changed: dict[UUID, tuple[Manager, Facts]] = {}
        for manager in self._parts.registry.all():
            if manager.admission is None or manager.ended is not None:
                continue
            facts = (
                manager.last_active_at,
                _if_before(manager.pinged_at, beat_ago),
                _if_before(manager.inbound.busy_since, beat_ago),
                manager.turn_began,
            )
            if facts != manager.written_facts:
                changed[manager.id] = (manager, facts)
        return changed

    def _write(self, ids: list[UUID], changed: dict[UUID, tuple[Manager, Facts]], node_id: UUID) -> None:
        with database.atomic():
            # Read both clocks together, after BEGIN, which on SQLite may have waited for a lock.
            now, clock = database.now(), self._parts.clock.now()
            rows = list(
                ManagerRecord.objects.filter(pk__in=ids, node_id=node_id)
                .order_by("pk")
                .select_for_update(skip_locked=True, no_key=True)
                .only("pk")
            )
            for row in rows:
                active, overdue, busy, turn = changed[row.pk][1]
                row.last_active_at = _on_database_clock(active, clock, now) or now
                row.overdue_since = _on_database_clock(overdue, clock, now)
                row.busy_since = _on_database_clock(busy, clock, now)
                row.turn_since = _on_database_clock(turn, clock, now)
            ManagerRecord.objects.bulk_update(rows, ["last_active_at", "overdue_since", "busy_since", "turn_since"])
        for row in rows:
            manager, facts = changed[row.pk]
            manager.written_facts = facts


class RefusalCounts:
    """Write the refused handshakes since the last write: once a beat."""

    def __init__(self, parts: NodeParts) -> None:
        self._refusals = parts.limiter.refusals
        self._beat_seconds = parts.tunables.beat_seconds
        self._wrote_at = 0.0

    def step(self, node_id: UUID, budget: Budget) -> bool:
        """Write the counts, if a beat is over. Returns whether some are left; they stay for the next beat."""
        now = time.monotonic()
        if now - self._wrote_at < self._beat_seconds * WRITE_AFTER:
            return False
        counts = self._refusals.take()
        try:
            while counts:
                some = {key: counts.pop(key) for key in list(islice(counts, REFUSALS))}
                try:
                    _write_refusals(some, node_id)
                except (*database.AWAY, database.Busy):  # any other error is theirs, and would keep the others
                    counts |= some
                    raise
                if counts and budget.spent:
                    return True
        finally:
            self._refusals.give_back(counts)
        self._wrote_at = now
        return False


def _write_refusals(counts: dict[tuple[Any, Refused], tuple[int, float]], node_id: UUID) -> None:
    clock, now = time.monotonic(), database.now()
    Refusal.objects.bulk_create(
        Refusal(
            user_id=user_id,
            node_id=node_id,
            cause=cause,
            count=count,
            at=now,
            until=now + timedelta(seconds=until - clock),
        )
        for (user_id, cause), (count, until) in counts.items()
    )


def _if_before(at: float | None, than: float) -> float | None:
    return at if at is not None and at <= than else None


def _on_database_clock(at: float | None, clock: float, now: datetime) -> datetime | None:
    return None if at is None else now - timedelta(seconds=max(0.0, clock - at))
