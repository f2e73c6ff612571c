"""The beat: each beat, or when a bell rings, the node reads its flagged records and acts on them, answers probes, and
writes what changed of its managers. In the beat thread.

In the database a beat costs the same for a hundred idle sockets as for five thousand.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from queue import SimpleQueue
from typing import Any
from uuid import UUID

from connections import database, metrics
from connections.models import ManagerRecord, Refusal
from connections.node.parts import NodeParts
from connections.node.reconcile import close_ended_sessions, reconcile
from connections.policy.actor import Actor
from connections.policy.states import CloseReason, ProbeMode, RecordState, Verdict
from connections.records import lifecycle
from connections.records.lifecycle import Ending
from connections.websocket.manager import Manager

ROWS = 200  # of one UPDATE: its CASE grows with them
WRITE_AFTER = 0.9  # beats since the last write: an earlier round came by a bell, and writes no changes


class Beat:
    """What a node does on each beat: carry out what the rows ask of it, and write what has changed here.

    `ring_recovery` wakes the recovery thread when probes have ended, since runs wait for them.
    """

    def __init__(self, parts: NodeParts, *, ring_recovery: Callable[[], None]) -> None:
        self._parts = parts
        self._ring_recovery = ring_recovery
        self._wrote_at = 0.0
        self._reconciled_at = time.monotonic()
        self._users_to_check: SimpleQueue[str] = SimpleQueue()

    def check_sessions(self, user_id: str) -> None:
        """Have the next round close the user's sockets whose session has ended. From any thread."""
        self._users_to_check.put(user_id)

    def __call__(self) -> None:
        """Do one round. Does nothing while the node has no lease."""
        node_id, values = self._parts.identity.id, self._parts.tunables
        if node_id is None:
            return
        now = time.monotonic()
        self.answer_probes()
        self.act_on_flags(node_id)
        if now - self._wrote_at >= values.beat_seconds * WRITE_AFTER:
            self._wrote_at = now
            self.write_changes(node_id)
            self.write_refusals(node_id)
        if now - self._reconciled_at >= values.reconcile_seconds:
            self._reconciled_at = now
            reconcile(self._parts, node_id)
        self._check_sessions_now()

    def _check_sessions_now(self) -> None:
        users: set[str] = set()
        while not self._users_to_check.empty():
            users.add(self._users_to_check.get_nowait())
        if users:
            close_ended_sessions(self._parts, [m for m in self._parts.registry.all() if str(m.user_id) in users])

    # Flagged records

    def act_on_flags(self, node_id: UUID) -> None:
        """Close managers whose records are `closing`, and probe managers whose probe is wanted."""
        now = database.now()
        self._act_on_closing(node_id, now)
        self._act_on_probes(node_id, now)

    def _act_on_closing(self, node_id: UUID, now: datetime) -> None:
        orphans: list[UUID] = []
        fields = ("pk", "close_reason", "evidence", "closing_at")
        for pk, reason, evidence, closing_at in ManagerRecord.objects.closing().on(node_id).values_list(*fields):
            manager = self._parts.registry.get(pk)
            if manager is not None:
                if not manager.closing and closing_at is not None:
                    metrics.kick_seconds.observe((now - closing_at).total_seconds())
                self._parts.order_close(manager, CloseReason(reason), evidence)
            elif not self._parts.writer.is_writing(pk):
                orphans.append(pk)
        if orphans:
            self._free_orphans(orphans, now)

    def _act_on_probes(self, node_id: UUID, now: datetime) -> None:
        parts = self._parts
        fields = ("pk", "state", "opened_at", "probe_wanted_at", "probe_mode")
        wanted = ManagerRecord.objects.probe_wanted().on(node_id).values_list(*fields)
        for pk, state, opened_at, wanted_at, mode in wanted:
            manager = parts.registry.get(pk)
            if manager is not None:
                if manager.probe is None or manager.probe.verdict is None:
                    parts.call(parts.keepalive.begin_probe, manager, wanted_at, ProbeMode(mode))
            elif state == RecordState.CLOSED:
                self._answer([(pk, wanted_at)], Verdict.ORPHANED, "closed meanwhile", now)
            elif not parts.writer.is_writing(pk) and self._outlived_handshake(opened_at, now):
                self._answer([(pk, wanted_at)], Verdict.ORPHANED, "its node does not know it", now)
                if mode == ProbeMode.CLOSE:
                    self._free_orphans([pk], now)

    def _outlived_handshake(self, opened_at: datetime, now: datetime) -> bool:
        return now - opened_at >= timedelta(seconds=self._parts.tunables.handshake_seconds)

    def _free_orphans(self, ids: list[UUID], now: datetime) -> None:
        actor = Actor.system(self._parts.identity.name)
        lifecycle.end_each(ids, Ending(CloseReason.ORPHANED, "its node does not know it", actor), now)

    # Probes

    def answer_probes(self) -> None:
        """Write the verdicts of the probes that have ended. A locked row keeps its probe for a later round."""
        answered: dict[tuple[Verdict, str], list[tuple[Manager, Any]]] = defaultdict(list)
        for manager in self._parts.registry.all():
            probe = manager.probe
            if probe is not None and probe.verdict is not None:
                answered[probe.verdict, probe.evidence].append((manager, probe))
        for (verdict, evidence), found in answered.items():
            locked = self._answer([(m.id, p.wanted_at) for m, p in found], verdict, evidence, database.now())
            for manager, probe in found:
                if manager.probe is probe and manager.id not in locked:
                    manager.probe = None
        if answered:
            self._ring_recovery()

    def _answer(self, found: list[tuple[UUID, datetime]], verdict: Verdict, evidence: str, now: datetime) -> set[UUID]:
        """Write one verdict to these records. Returns the ids of records that somebody else has locked."""
        ids_by_wanted_at: dict[datetime, list[UUID]] = defaultdict(list)
        for pk, wanted_at in found:
            ids_by_wanted_at[wanted_at].append(pk)
        locked: set[UUID] = set()
        for wanted_at, ids in ids_by_wanted_at.items():
            rows = ManagerRecord.objects.filter(pk__in=ids, probe_wanted_at=wanted_at, probe_answered_at=None)
            with database.atomic():
                unlocked = rows.order_by("pk").select_for_update(skip_locked=True, no_key=True)
                ManagerRecord.objects.filter(pk__in=list(unlocked.values_list("pk", flat=True))).update(
                    probe_answered_at=now, probe_verdict=verdict, probe_evidence=evidence[:300]
                )
            locked.update(rows.values_list("pk", flat=True))
        self._ring_recovery()
        return locked

    # Changed managers and refused handshakes

    def write_changes(self, node_id: UUID) -> None:
        """Write the four times of each manager that changed, converted to the database's clock."""
        changed = self._changed_managers()
        ids = sorted(changed)
        for start in range(0, len(ids), ROWS):
            self._write_changes_of(ids[start : start + ROWS], changed, node_id)

    def _changed_managers(self) -> dict[UUID, tuple[Manager, tuple[Any, ...]]]:
        beat_ago = self._parts.clock.now() - self._parts.tunables.beat_seconds
        changed: dict[UUID, tuple[Manager, tuple[Any, ...]]] = {}
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

    def _write_changes_of(
        self, ids: list[UUID], changed: dict[UUID, tuple[Manager, tuple[Any, ...]]], node_id: UUID
    ) -> None:
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

    def write_refusals(self, node_id: UUID) -> None:
        """Write the refused handshakes since the last beat. If the database does not answer, they stay for the next."""
        refusals = self._parts.limiter.refusals
        counts = refusals.take()
        if not counts:
            return
        clock = time.monotonic()
        try:
            now = database.now()
            rows = [
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
            Refusal.objects.bulk_create(rows)
        except database.AWAY:
            refusals.give_back(counts)
            raise


def _if_before(at: float | None, than: float) -> float | None:
    return at if at is not None and at <= than else None


def _on_database_clock(at: float | None, clock: float, now: datetime) -> datetime | None:
    return None if at is None else now - timedelta(seconds=max(0.0, clock - at))
