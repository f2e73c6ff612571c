"""The seven steps of a run. Each does what the facts allow now, and returns whether the step is done.

Every step runs in the transaction of `runs.advance`, which holds the lock on the run's row.
"""

from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from connections.conf import Tunables
from connections.models import ManagerRecord, RecoveryRun
from connections.policy.actor import Actor
from connections.policy.admission import CountedRecord, excess
from connections.policy.node_state import NodeState
from connections.policy.states import DEAD, ActorKind, CloseReason, Outcome, ProbeMode, RecordState, RunKind, Step
from connections.policy.wording import count_of
from connections.records import counting, lease, lifecycle, system_runs
from connections.records.lifecycle import Ending
from connections.recovery.findings import answered_since, conclude, evidence_of, finding_of, outcome_of, stock_of


class StepContext:
    """The context of one step: the run, the time, the settings, its detail, and the nodes to ring after it."""

    def __init__(self, run: RecoveryRun, now: datetime, values: Tunables) -> None:
        assert run.user_id is not None
        self.user_id: Any = run.user_id
        self.run = run
        self.now = now
        self.values = values
        self.detail = ""
        self.bells: set[UUID] = set()

    @property
    def actor(self) -> Actor:
        return Actor(ActorKind(self.run.actor_kind), self.run.actor)

    @cached_property
    def lost(self) -> set[UUID]:
        """The nodes that a dry run counts as lost, since it fences none itself."""
        return lease.would_fence(self.values, self.now) if self.run.dry_run else set()

    def rows(self) -> list[ManagerRecord]:
        return stock_of(self.run)

    def since_roll_call(self) -> float:
        started = self.run.roll_call_at or self.run.opened_at
        return (self.now - started).total_seconds()

    def before(self, beats: float) -> bool:
        """Whether the roll call has had less than its probe and so many beats."""
        return self.since_roll_call() < self.values.probe_seconds + beats * self.values.beat_seconds


def _take_stock(context: StepContext) -> bool:
    run, now = context.run, context.now
    limits = counting.limits_of({context.user_id}, now, context.values, lock=True)
    held = list(ManagerRecord.objects.held().filter(user_id=run.user_id).values_list("pk", "pool", "state"))
    run.stock = [str(pk) for pk, _, _ in held]
    run.before = len(held)
    pools: dict[str, int] = {}
    for _, pool, _ in held:
        pools[pool] = pools.get(pool, 0) + 1
    fullest = max(pools, key=lambda pool: pools[pool], default="chat")
    run.soft_limit = limits[context.user_id, fullest].soft_limit
    if not run.dry_run:
        nodes = set(ManagerRecord.objects.held().filter(user_id=run.user_id).values_list("node_id", flat=True))
        fenced = lease.fence(context.values, nodes)
        context.detail = "".join(f"fenced {node.name}; " for node in fenced)
    context.detail += f"{run.before} held"
    return True


def _roll_call(context: StepContext) -> bool:
    """Probe the managers on every node that may answer, at once. A reset closes them anyway, so it probes only in a dry
    run.
    """
    run, now = context.run, context.now
    run.roll_call_at = now
    if run.kind == RunKind.RESET and not run.dry_run:
        context.detail = "not asked: a reset closes everything"
        return True
    rows = ManagerRecord.objects.counted().filter(pk__in=run.stock, node__fenced_at=None, node__retired_at=None)
    if run.dry_run:  # a roll call under way is neither repeated nor weakened
        rows = rows.exclude(probe_wanted_at__isnull=False, probe_answered_at=None)
    locked = lifecycle.lock_available(rows.values_list("pk", flat=True))
    ids = dict(rows.filter(pk__in=locked).values_list("pk", "node_id"))
    rows.filter(pk__in=ids).update(
        probe_wanted_at=now,
        probe_mode=ProbeMode.REPORT if run.dry_run else ProbeMode.CLOSE,
        probe_answered_at=None,
        probe_verdict="",
        probe_evidence="",
    )
    context.bells = set(ids.values())
    nodes = len(context.bells)
    context.detail = f"{len(ids)} asked on {count_of(nodes, 'node')}"
    return True


def _free(context: StepContext) -> bool:
    if not context.run.dry_run:
        context.detail = f"{_free_lost(context)} freed of nodes that are gone"
    return True


def _free_lost(context: StepContext) -> int:
    """Free the records of gone nodes. Repeated while the run waits, since a witness may have become steady."""
    rows = [row for row in context.rows() if row.state != RecordState.CLOSED]
    lapsed = {
        row.node_id for row in rows if row.node.state_at(context.now, context.values.late_seconds) is NodeState.LAPSED
    }
    if lapsed and lease.fence(context.values, lapsed):
        rows = [row for row in context.rows() if row.state != RecordState.CLOSED]
    lost = [row for row in rows if row.node.gone]
    locked = lifecycle.lock_available(row.pk for row in lost)
    freed = 0
    for node in {row.node_id: row.node for row in lost}.values():
        reason = CloseReason.NODE_DRAINING if node.retired_at else CloseReason.NODE_LOST
        done, _ = lifecycle.end_each(
            [row.pk for row in lost if row.node_id == node.pk and row.pk in locked],
            Ending(reason, evidence_of(node), context.actor, context.run),
            context.now,
        )
        freed += done
    return freed


def _evict(context: StepContext) -> bool:
    """Cleanup: evict down to the soft limit, once the roll call has had its time. Reset: close the whole stock."""
    run = context.run
    if run.kind == RunKind.RESET and not run.dry_run:
        ordered, _ = lifecycle.order_each(
            [UUID(pk) for pk in run.stock],
            Ending(CloseReason.RESET, f"reset: {run.reason}", context.actor, run),
            context.now,
        )
        context.bells = set(ordered.values())
        context.detail = f"{len(ordered)} told to close"
        return True
    if not run.dry_run and _free_lost(context):
        return False  # commit before evicting: no transaction locks records twice
    # Within two beats the probe's request reaches its node and the answer comes back. Wait a quarter beat less, so that
    # the eviction falls within them too.
    if context.before(1.75) and any(_awaited(row, context) for row in context.rows()):
        return False
    if run.dry_run:
        return True
    evicted = _evict_over(context)
    if evicted is None:
        return False
    context.detail = f"{evicted} evicted" if evicted else "not over the limit"
    return True


def _evict_over(context: StepContext) -> int | None:
    """Evict down to the soft limit in every pool. Lock the gates first, then all possible victims in one statement, and
    only then count: a record that ends meanwhile is counted no more.

    None if another transaction holds one of them: most likely it is ending it. Two beats after the probe, one that is
    still held is passed over for the next by rank.
    """
    if context.values.observe and context.run.actor_kind == ActorKind.SYSTEM:
        return 0
    gates = counting.limits_of({context.user_id}, context.now, context.values, lock=True)
    limits = {pool: limits.soft_limit for (_, pool), limits in gates.items()}
    crowded = {pool for pool, records in _living(context).items() if pool in limits and len(records) > limits[pool]}
    if not crowded:
        return 0
    counted = ManagerRecord.objects.counted().filter(user_id=context.user_id, pool__in=crowded)
    locked = lifecycle.lock_available(counted.values_list("pk", flat=True))
    living = {pool: records for pool, records in _living(context).items() if pool in crowded}
    if context.before(2) and any(record.id not in locked for records in living.values() for record in records):
        return None
    return sum(_evict_among(records, limits[pool], locked, context) for pool, records in living.items())


def _living(context: StepContext) -> dict[str, list[CountedRecord]]:
    """The user's counted records by pool, without those that the roll call found dead."""
    dying = {row.pk for row in context.rows() if finding_of(row, context.run, context.now).verdict in DEAD}
    counted = counting.counted_records({context.user_id}, context.now, context.values)
    return {pool: [record for record in records if record.id not in dying] for (_, pool), records in counted.items()}


def _evict_among(living: list[CountedRecord], soft_limit: int, locked: set[UUID], context: StepContext) -> int:
    ordered: dict[UUID, UUID] = {}
    unclosable = {record.id for record in living} - locked
    while victims := excess(living, soft_limit, unclosable):
        evidence = f"ranked first of {len(living)} at a limit of {soft_limit}, after a roll call"
        done, failed = lifecycle.order_each(
            [victim.id for victim in victims],
            Ending(CloseReason.EVICTED, evidence, context.actor, context.run),
            context.now,
        )
        ordered |= done
        if not failed:
            break
        unclosable |= failed.keys()
        living = [record for record in living if record.id not in done]
    context.bells |= set(ordered.values())
    if ordered:
        context.run.stock = sorted({*context.run.stock, *(str(pk) for pk in ordered)})
    return len(ordered)


def _awaited(row: ManagerRecord, context: StepContext) -> bool:
    """Whether the node of this record may still answer the roll call or confirm a close."""
    if row.state != RecordState.LIVE or row.node.gone or row.node_id in context.lost:
        return False
    answered = answered_since(row, context.run.roll_call_at)
    return not answered or (row.probe_verdict in DEAD and not context.run.dry_run)


def _confirm(context: StepContext) -> bool:
    """Wait, at most two leases, for nodes that have not answered and for closes that are not confirmed."""
    run = context.run
    if not run.dry_run:
        if _free_lost(context):
            return False  # as above
        if run.kind == RunKind.CLEANUP:
            _evict_over(context)  # admissions over the limit since then opened no run beside this one
    rows = context.rows()
    waiting = [row for row in rows if row.state == RecordState.CLOSING and not run.dry_run]
    if run.kind == RunKind.CLEANUP or run.dry_run:
        waiting += [row for row in rows if _awaited(row, context)]
    if waiting and context.since_roll_call() < 2 * context.values.lease_seconds:
        return False
    context.detail = f"{len(waiting)} not confirmed" if waiting else "all confirmed"
    return True


def follow_up(context: StepContext) -> None:
    """Open a new run if the user went over the limit after this run's last check, while it was still open."""
    run, values = context.run, context.values
    if run.kind == RunKind.RESET or run.dry_run or run.error or values.observe:
        return
    # Locked: an admission under way either is counted here, or finds this run finished.
    limits = counting.limits_of({context.user_id}, context.now, values, lock=True)
    counted = counting.counted_records({context.user_id}, context.now, values)
    for (_, pool), records in counted.items():
        # Only for new records: otherwise runs that can't evict would follow each other without end.
        newcomers = any(run.opened_at < record.opened_at <= context.now for record in records)
        if newcomers and len(records) > limits[context.user_id, pool].soft_limit:
            system_runs.open_system_runs({context.user_id}, context.now)


def _verify(context: StepContext) -> bool:
    """Count the held records again, and set the findings."""
    run = context.run
    conclude(run, context.now, context.values)
    context.detail = f"{run.before} before, {run.after} after"
    return True


def _report(context: StepContext) -> bool:
    run = context.run
    run.finished_at = context.now
    run.outcome = Outcome.FAILED if run.error else outcome_of(run)
    context.detail = run.outcome
    return True


STEP_OF: dict[Step, Callable[[StepContext], bool]] = {
    Step.TAKE_STOCK: _take_stock,
    Step.ROLL_CALL: _roll_call,
    Step.FREE: _free,
    Step.EVICT: _evict,
    Step.CONFIRM: _confirm,
    Step.VERIFY: _verify,
    Step.REPORT: _report,
}
