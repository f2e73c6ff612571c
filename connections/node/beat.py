"""What a node does each beat, or on a bell: read its flagged records and act, write what changed of its managers.

In the database this costs the same for a hundred idle sockets as for five thousand.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import transaction

from connections import database, metrics
from connections.models import ManagerRecord, Refusal
from connections.node.reconcile import end_sessions, reconcile
from connections.policy.actor import Actor
from connections.policy.states import CloseReason, ProbeMode, RecordState, Verdict
from connections.records import lifecycle
from connections.websocket.manager import Manager

if TYPE_CHECKING:
    from connections.node.runtime import NodeRuntime

logger = logging.getLogger(__name__)

ROWS = 200  # of one UPDATE: its CASE grows with them


class Beat:
    """One round of a node's pass over its records. Runs in a thread of its own."""

    def __init__(self, node: "NodeRuntime") -> None:
        self._node = node
        self._wrote_at = 0.0
        self._reconciled_at = time.monotonic()
        self._logged_out: SimpleQueue[str] = SimpleQueue()

    def look_at_sessions(self, user_id: str) -> None:
        """Have the next round end the sockets of this user whose session has ended. From any thread."""
        self._logged_out.put(user_id)

    def __call__(self) -> None:
        node_id = self._node.id
        if node_id is None:
            return
        now = time.monotonic()
        self.answer_probes()
        self.act_on_flags(node_id)
        if now - self._wrote_at >= self._node.tunables.beat_seconds * 0.9:
            self._wrote_at = now
            self.write_changes(node_id)
            self.write_refusals(node_id)
        if now - self._reconciled_at >= self._node.tunables.reconcile_seconds:
            self._reconciled_at = now
            reconcile(self._node, node_id)
        self.end_sessions()

    def end_sessions(self) -> None:
        users: set[str] = set()
        while not self._logged_out.empty():
            users.add(self._logged_out.get_nowait())
        if users:
            end_sessions(self._node, [m for m in self._node.registry.all() if str(m.user_id) in users])

    def act_on_flags(self, node_id: UUID) -> None:
        """Close what shall be closed, probe what is to be probed, free what this node does not have."""
        now = database.now()
        orphans: list[UUID] = []
        closing = (
            ManagerRecord.objects.closing().on(node_id).values_list("pk", "close_reason", "evidence", "closing_at")
        )
        for pk, reason, evidence, closing_at in closing:
            manager = self._node.registry.get(pk)
            if manager is not None:
                if not manager.closing and closing_at is not None:
                    metrics.kick_seconds.observe((now - closing_at).total_seconds())
                self._call(manager.order, CloseReason(reason), evidence)
            elif not self._node.writer.is_writing(pk):
                orphans.append(pk)
        if orphans:
            self._free_orphans(orphans, now)
        wanted = (
            ManagerRecord.objects.probe_wanted()
            .on(node_id)
            .values_list("pk", "state", "opened_at", "probe_wanted_at", "probe_mode")
        )
        for pk, state, opened_at, wanted_at, mode in wanted:
            manager = self._node.registry.get(pk)
            if manager is not None:
                if manager.probe is None or manager.probe.verdict is None:
                    self._call(self._node.heartbeat.begin_probe, manager, wanted_at, ProbeMode(mode))
            elif state == RecordState.CLOSED:
                self._answer([(pk, wanted_at)], Verdict.ORPHANED, "closed meanwhile", now)
            elif not self._node.writer.is_writing(pk) and self._settled(opened_at, now):
                self._answer([(pk, wanted_at)], Verdict.ORPHANED, "its node does not know it", now)
                if mode == ProbeMode.CLOSE:
                    self._free_orphans([pk], now)

    def answer_probes(self) -> None:
        answered: dict[tuple[Verdict, str], list[tuple[Manager, Any]]] = defaultdict(list)
        for manager in self._node.registry.all():
            probe = manager.probe
            if probe is not None and probe.verdict is not None:
                answered[probe.verdict, probe.evidence].append((manager, probe))
        for (verdict, evidence), found in answered.items():
            locked = self._answer([(m.id, p.wanted_at) for m, p in found], verdict, evidence, database.now())
            for manager, probe in found:
                if manager.probe is probe and manager.id not in locked:
                    manager.probe = None
        if answered:
            self._node.ring_recovery()

    def write_changes(self, node_id: UUID) -> None:
        """Active, overdue, busy and turn of each manager that changed, on the database's clock."""
        clock, beat = self._node.clock.now(), self._node.tunables.beat_seconds
        changed: dict[UUID, tuple[Manager, tuple[Any, ...]]] = {}
        for manager in self._node.registry.all():
            if manager.admission is None or manager.ended is not None:
                continue
            facts = (
                manager.active,
                _if_older(manager.pinged, clock - beat),
                _if_older(manager.inbox.taken, clock - beat),
                manager.turn_began,
            )
            if facts != manager.written:
                changed[manager.id] = (manager, facts)
        ids = sorted(changed)
        for start in range(0, len(ids), ROWS):
            with transaction.atomic():
                # Side by side: before, the transaction may have waited for somebody.
                now, clock = database.now(), self._node.clock.now()
                rows = list(
                    ManagerRecord.objects.filter(pk__in=ids[start : start + ROWS], node_id=node_id)
                    .order_by("pk")
                    .select_for_update(skip_locked=True, no_key=True)
                    .only("pk")
                )
                for row in rows:
                    facts = changed[row.pk][1]
                    row.last_active_at = _on_database_clock(facts[0], clock, now) or now
                    row.overdue_since = _on_database_clock(facts[1], clock, now)
                    row.busy_since = _on_database_clock(facts[2], clock, now)
                    row.turn_since = _on_database_clock(facts[3], clock, now)
                ManagerRecord.objects.bulk_update(rows, ["last_active_at", "overdue_since", "busy_since", "turn_since"])
            for row in rows:
                manager, facts = changed[row.pk]
                manager.written = facts

    def write_refusals(self, node_id: UUID) -> None:
        counts = self._node.door.refusals.take()
        if not counts:
            return
        clock = time.monotonic()
        try:
            now = database.now()
            Refusal.objects.bulk_create(
                [
                    Refusal(
                        user_id=user_id,
                        node_id=node_id,
                        cause=cause,
                        count=count,
                        at=now,
                        until=now + timedelta(seconds=until - clock),
                    )
                    for (user_id, cause), (count, until) in counts.items()
                ]
            )
        except database.AWAY:
            self._node.door.refusals.give_back(counts)
            raise

    def _answer(self, found: list[tuple[UUID, datetime]], verdict: Verdict, evidence: str, now: datetime) -> set[UUID]:
        """Returns those whose rows somebody has locked, which are left to a later round."""
        by_wish: dict[datetime, list[UUID]] = defaultdict(list)
        for pk, wanted_at in found:
            by_wish[wanted_at].append(pk)
        locked: set[UUID] = set()
        for wanted_at, ids in by_wish.items():
            rows = ManagerRecord.objects.filter(pk__in=ids, probe_wanted_at=wanted_at, probe_answered_at=None)
            with transaction.atomic():
                free = rows.order_by("pk").select_for_update(skip_locked=True, no_key=True)
                ManagerRecord.objects.filter(pk__in=list(free.values_list("pk", flat=True))).update(
                    probe_answered_at=now, probe_verdict=verdict, probe_evidence=evidence[:300]
                )
            locked.update(rows.values_list("pk", flat=True))
        self._node.ring_recovery()
        return locked

    def _free_orphans(self, ids: list[UUID], now: datetime) -> None:
        actor = Actor.system(self._node.name)
        lifecycle.end_each(ids, CloseReason.ORPHANED, "its node does not know it", actor=actor, now=now)

    def _settled(self, opened_at: datetime, now: datetime) -> bool:
        return now - opened_at >= timedelta(seconds=self._node.tunables.handshake_seconds)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        _on_loop(self._node.loop, function, *arguments)


def _on_loop(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *arguments)


def _if_older(at: float | None, than: float) -> float | None:
    return at if at is not None and at <= than else None


def _on_database_clock(at: float | None, clock: float, now: datetime) -> datetime | None:
    return None if at is None else now - timedelta(seconds=max(0.0, clock - at))
