"""A small world around the pure core: nodes, sockets, and rows in memory. Nothing sleeps: `World.tick` lets time pass.

This module changes the rows by a simple copy of the engine's rules. Under test are the engine's decisions: policy, the
heartbeat's judgement by the node's own clock, the limit in force, and the findings of a run.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast
from unittest import mock
from uuid import UUID

from connections.models import ManagerRecord, Node, RecoveryRun, UserGate
from connections.policy.admission import CountedRecord, excess
from connections.policy.node_state import NodeState
from connections.policy.states import DEAD, ActorKind, CloseReason, ProbeMode, RecordState, RunKind
from connections.recovery.findings import finding_of
from connections.websocket.manager import Manager
from tests.property.sockets import TICK, VALUES, ModelNode, Socket

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(eq=False)
class Run:
    row: RecoveryRun
    user: int
    stock: list[ManagerRecord]


@dataclass(eq=False)
class Eviction:
    """The evictions of a run in one pool: the living records that it chose from, and the victims that it chose."""

    soft_limit: int
    living: list[CountedRecord]
    victims: list[CountedRecord]


@dataclass
class World:
    time: float = 1000.0
    nodes: list[ModelNode] = field(default_factory=list)
    rows: list[ManagerRecord] = field(default_factory=list)
    gates: dict[tuple[int, str], UserGate] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    ends: list[Socket] = field(default_factory=list)  # sockets that ended since an invariant last looked
    evictions: list[Eviction] = field(default_factory=list)  # evictions since an invariant last looked

    def __post_init__(self) -> None:
        self._ids = 1000
        # Only the node clocks use the world's time: Hypothesis itself needs the real `time.monotonic`.
        self._patch = mock.patch("connections.websocket.clock.time", SimpleNamespace(monotonic=lambda: self.time))
        self._patch.start()

    def end(self) -> None:
        self._patch.stop()

    def new_id(self) -> UUID:
        """The next id in a fixed sequence, so that an example can be repeated."""
        self._ids += 1
        return UUID(int=self._ids)

    @property
    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.time)

    # Nodes

    def start_node(self) -> ModelNode:
        node = ModelNode(self._identity(f"web-{len(self.nodes)}"))
        node.heartbeat.begin_tick()
        self.nodes.append(node)
        return node

    def _identity(self, name: str) -> Node:
        lease = timedelta(seconds=VALUES.lease_seconds)
        return Node(
            id=self.new_id(),
            name=name,
            started_at=self.now,
            renewed_at=self.now,
            steady_since=self.now,
            lease_expires_at=self.now + lease,
        )

    def tick(self) -> None:
        self.time += TICK
        for node in self.nodes:
            if node.state == "up":
                self._tick(node)
        self.runs = [run for run in self.runs if not self._evict_if_due(run)]

    def _tick(self, node: ModelNode) -> None:
        for socket in node.sockets:
            socket.bad_ticks += socket.mood != "answers"
            socket.quiet_ticks += socket.quiet
        now = node.heartbeat.begin_tick()
        for socket in node.sockets:
            socket.deliver()
        node.heartbeat.look_at_all(now)
        node.beat_in -= 1
        if node.beat_in <= 0:
            node.beat_in = round(VALUES.beat_seconds / TICK)
            self._beat(node)
        for socket in node.sockets:
            if socket.ended is not None:
                self.ends.append(socket)
                self.close(socket.row, *socket.ended)
                node.registry.remove(cast("Manager", socket))

    def _beat(self, node: ModelNode) -> None:
        if node.row.fenced_at is not None:
            for socket in node.sockets:
                socket.order_close(CloseReason.NODE_LOST, "its node was fenced")
            node.row = self._identity(node.row.name)
            return
        if self.now - node.row.renewed_at > timedelta(seconds=VALUES.late_seconds):
            node.row.steady_since = self.now
        node.row.renewed_at = self.now
        node.row.lease_expires_at = self.now + timedelta(seconds=VALUES.lease_seconds)
        for socket in node.sockets:
            self._pass_over(socket)

    def _pass_over(self, socket: Socket) -> None:
        row, clock = socket.row, socket.node.clock.now()
        row.last_active_at = self.now - timedelta(seconds=max(0.0, clock - socket.last_active_at))
        overdue = socket.pinged_at is not None and clock - socket.pinged_at >= VALUES.beat_seconds
        row.overdue_since = self.now if overdue else None
        if row.state == RecordState.CLOSING:
            socket.order_close(CloseReason(row.close_reason), row.evidence)
        if socket.probe is not None and socket.probe.verdict is not None:
            row.probe_answered_at, row.probe_verdict = self.now, socket.probe.verdict
            row.probe_evidence, socket.probe = socket.probe.evidence, None
        elif row.probe_wanted_at is not None and row.probe_answered_at is None:
            manager = cast("Manager", socket)
            socket.node.heartbeat.begin_probe(manager, row.probe_wanted_at, ProbeMode(row.probe_mode))

    def fence(self) -> None:
        """Fence lapsed nodes by the rule of the design: only if there is a steady witness."""
        late, lease = timedelta(seconds=VALUES.late_seconds), timedelta(seconds=VALUES.lease_seconds)
        rows = {row.node for row in self.rows} | {node.row for node in self.nodes}
        able = [
            n for n in rows if not n.gone and self.now - n.renewed_at <= late and self.now - n.steady_since >= lease
        ]
        for row in rows:
            if able and row.state_at(self.now, VALUES.late_seconds) is NodeState.LAPSED:
                row.fenced_at, row.fenced_evidence = self.now, "no renewal"
        for record in self.held():
            if record.node.gone:
                self.close(record, CloseReason.NODE_LOST, "its node is gone")

    # Records

    def held(self) -> list[ManagerRecord]:
        return [row for row in self.rows if row.state != RecordState.CLOSED]

    def counted(self, user: int, pool: str) -> list[ManagerRecord]:
        return [r for r in self.rows if (r.user_id, r.pool, r.state) == (user, pool, RecordState.LIVE)]

    def holdings(self, user: int, pool: str) -> list[CountedRecord]:
        late = self.now - timedelta(seconds=VALUES.late_seconds)
        return [
            CountedRecord(
                row.pk,
                row.opened_at,
                row.last_active_at,
                on_late_node=row.node.renewed_at < late,
                overdue=row.overdue_since is not None,
                device=row.device,
                attempt=row.attempt,
            )
            for row in self.counted(user, pool)
        ]

    def order(self, row: ManagerRecord, reason: CloseReason, evidence: str) -> None:
        if row.state == RecordState.LIVE:
            row.state, row.closing_at, row.close_reason, row.evidence = RecordState.CLOSING, self.now, reason, evidence

    def close(self, row: ManagerRecord, reason: CloseReason, evidence: str) -> None:
        if row.state == RecordState.LIVE:
            row.close_reason, row.evidence = reason, evidence
        row.state, row.closed_at, row.actor_kind = RecordState.CLOSED, self.now, ActorKind.SYSTEM

    def limit(self, user: int, pool: str) -> int:
        return self.gates.setdefault((user, pool), UserGate(user_id=user, pool=pool)).limit_at(
            self.now, VALUES.soft_limit
        )

    # Runs

    def begin_run(self, user: int) -> None:
        if any(run.user == user for run in self.runs):
            return
        row = RecoveryRun(user_id=user, kind=RunKind.CLEANUP, opened_at=self.now, roll_call_at=self.now)
        self.fence()
        stock = [r for r in self.held() if r.user_id == user]
        for record in stock:
            if record.state == RecordState.LIVE:
                record.probe_wanted_at, record.probe_mode = self.now, ProbeMode.CLOSE
                record.probe_answered_at, record.probe_verdict = None, ""
        self.runs.append(Run(row, user, stock))

    def _evict_if_due(self, run: Run) -> bool:
        """Do the evictions of a cleanup run, if its roll call is answered or over; return whether it was due."""
        assert run.row.roll_call_at is not None
        waited = (self.now - run.row.roll_call_at).total_seconds()
        asked = [r for r in run.stock if r.state == RecordState.LIVE and r.probe_answered_at is None]
        if asked and waited < VALUES.probe_seconds + 1.75 * VALUES.beat_seconds:
            return False
        dying = {r.pk for r in run.stock if finding_of(r, run.row, self.now).verdict in DEAD}
        for pool in sorted({row.pool for row in self.held() if row.user_id == run.user}):
            living = [h for h in self.holdings(run.user, pool) if h.id not in dying]
            soft_limit = self.limit(run.user, pool)
            victims = excess(living, soft_limit)
            for row in self.counted(run.user, pool):
                if row.pk in {victim.id for victim in victims}:
                    self.order(row, CloseReason.EVICTED, "ranked first")
            self.evictions.append(Eviction(soft_limit, living, victims))
        return True
