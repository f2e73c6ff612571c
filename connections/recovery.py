"""Recovery as a state machine in a row. `advance` is all there is to it: lock the run, take the one next step that the
facts allow, commit. Any node and any waiting command may call it; whoever dies, the next beat goes on.
"""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import DatabaseError, IntegrityError, transaction

from connections import database, gates, lifecycle, policy
from connections.bells import ring
from connections.conf import Tunables, tunables
from connections.findings import conclude, evidence_of, finding_of, outcome_of, stock_of
from connections.lifecycle import Actor
from connections.models import ManagerRecord, RecoveryRun, RunStep, UserGate
from connections.states import (
    DEAD,
    STEPS,
    ActorKind,
    CloseReason,
    Outcome,
    ProbeMode,
    RecordState,
    RunKind,
    Step,
)

logger = logging.getLogger(__name__)

STEPS_A_ROUND = 20  # of one run in one round: each is due at once or not at all, so this only bounds a mistake


def request(
    user: Any, kind: RunKind, *, actor: Actor, reason: str, dry_run: bool = False, action: str = "", delay: float = 0.0
) -> tuple[RecoveryRun, bool]:
    """Open a run, or join the one of this kind that is open for the user. A dry run joins none. A new run takes its
    first step after `delay` seconds, so that many can be paced.

    Returns (run, whether it was joined). Writes the audit entry, and rings all nodes. Two at once: one opens it, the
    constraint makes the other join.
    """
    action = action or ("dry_run" if dry_run else kind.value)
    run, joined = _open_or_join(user, kind, actor, reason, dry_run, delay)
    lifecycle.audit(
        actor,
        action,
        user=user,
        target=str(run.pk),
        reason=reason,
        outcome="joined" if joined else "opened",
        run=run,
    )
    ring()
    return run, joined


def _open_or_join(
    user: Any, kind: RunKind, actor: Actor, reason: str, dry_run: bool, delay: float
) -> tuple[RecoveryRun, bool]:
    for _ in range(3):
        try:
            with transaction.atomic():
                if not dry_run:
                    same = RecoveryRun.objects.open().filter(user=user, kind=kind, dry_run=False).first()
                    if same is not None:
                        return same, True
                now = database.now()
                run = RecoveryRun.objects.create(
                    user=user,
                    user_label=user.get_username()[:200],
                    kind=kind,
                    dry_run=dry_run,
                    actor_kind=actor.kind,
                    actor=actor.label[:200],
                    reason=reason[:500],
                    opened_at=now,
                    due_at=now + timedelta(seconds=delay),
                )
                return run, False
        except IntegrityError:
            continue  # somebody opened one in between: join that
    raise RuntimeError(f"could not open or join a {kind} run of {user}")


def advance_due(values: Tunables) -> float | None:
    """Advance every run that is due. Returns the seconds until the next is, None if none is open."""
    now = database.now()
    for run_id in RecoveryRun.objects.due(now).order_by("due_at").values_list("pk", flat=True):
        advance(run_id, values)
    next_due = RecoveryRun.objects.open().order_by("due_at").values_list("due_at", flat=True).first()
    return None if next_due is None else max(0.0, (next_due - database.now()).total_seconds())


def advance(run_id: UUID, values: Tunables | None = None) -> RecoveryRun:
    """Take the steps of one run that are due, each in a transaction of its own. Returns the run as it is then.

    Raises RecoveryRun.DoesNotExist.
    """
    values = values or tunables()
    for _ in range(STEPS_A_ROUND):
        if not _advance_once(run_id, values):
            break
    return RecoveryRun.objects.get(pk=run_id)


def wait(run_id: UUID, timeout: float) -> RecoveryRun:
    """Advance a run until it has finished, or `timeout` seconds are over. For commands, which have time to spare."""
    deadline = time.monotonic() + timeout
    while True:
        run = advance(run_id)
        if run.finished_at is not None or time.monotonic() >= deadline:
            return run
        time.sleep(min(0.2, tunables().beat_seconds / 4))


def _advance_once(run_id: UUID, values: Tunables) -> bool:
    """One step. False if the run has finished, is not due, or is being advanced by somebody else."""
    with transaction.atomic():
        run = RecoveryRun.objects.select_for_update(skip_locked=True).filter(pk=run_id).first()
        if run is None or run.finished_at is not None:
            return False
        now = database.now()
        if run.due_at > now:
            return False
        if run.user_id is None:  # never by "no user": that would be the records of everybody who was deleted
            run.finished_at, run.outcome = now, Outcome.FAILED
            run.error = "the account was deleted meanwhile"
            run.save()
            return False
        step = Step(run.step)
        taken = _Taken(run, now, values)
        done = _take(step, taken)
        if done and run.finished_at is None:
            run.step = STEPS[STEPS.index(step) + 1]
            run.due_at = now
        elif not done:
            run.due_at = now + timedelta(seconds=min(0.25, values.beat_seconds / 4))
        run.save()
        if run.finished_at is not None:
            _follow_up(taken)
        if taken.bells:
            bells = set(taken.bells)
            transaction.on_commit(lambda: ring(bells))
        return done


def _take(step: Step, taken: "_Taken") -> bool:
    """Take a step in a savepoint. One that fails is recorded, and the run goes on: what it would have done shows up
    as not done in the report. False if it is not due yet.
    """
    run, now = taken.run, taken.now
    try:
        with transaction.atomic():
            done = STEP_OF[step](taken)
    except database.AWAY:
        raise
    except DatabaseError as error:
        logger.exception("step_failed", extra={"run": str(run.pk), "step": step})
        RunStep.objects.create(run=run, step=step, at=now, error=str(error)[:500])
        run.error = run.error or f"{step}: {error}"[:500]
        if step is Step.REPORT:
            run.finished_at, run.outcome = now, Outcome.FAILED
        return True
    if done:
        RunStep.objects.create(run=run, step=step, at=now, detail=taken.detail[:500])
    return done


class _Taken:
    """One step being taken: the run, the clock, and what the step says of itself."""

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

    def rows(self) -> list[ManagerRecord]:
        return stock_of(self.run)

    def since_roll_call(self) -> float:
        started = self.run.roll_call_at or self.run.opened_at
        return (self.now - started).total_seconds()


def _take_stock(taken: _Taken) -> bool:
    run, now = taken.run, taken.now
    gates_of_user = list(UserGate.objects.filter(user_id=taken.user_id).order_by("user_id", "pool").select_for_update())
    held = list(ManagerRecord.objects.held().filter(user_id=run.user_id).values_list("pk", "pool", "state"))
    run.stock = [str(pk) for pk, _, _ in held]
    run.before = len(held)
    pools: dict[str, int] = {}
    for _, pool, _ in held:
        pools[pool] = pools.get(pool, 0) + 1
    fullest = max(pools, key=lambda pool: pools[pool], default="chat")
    limits = {gate.pool: gate.limit_at(now, taken.values.soft_limit) for gate in gates_of_user}
    run.soft_limit = limits.get(fullest, taken.values.soft_limit)
    if not run.dry_run:
        nodes = set(ManagerRecord.objects.held().filter(user_id=run.user_id).values_list("node_id", flat=True))
        fenced = lifecycle.fence(taken.values, nodes)
        taken.detail = "".join(f"fenced {node.name}; " for node in fenced)
    taken.detail += f"{run.before} held"
    return True


def _roll_call(taken: _Taken) -> bool:
    """Ask every node that may answer, at once. A reset closes all the same, so it asks only in a dry run."""
    run, now = taken.run, taken.now
    run.roll_call_at = now
    if run.kind == RunKind.RESET and not run.dry_run:
        taken.detail = "not asked: a reset closes everything"
        return True
    rows = ManagerRecord.objects.counted().filter(pk__in=run.stock, node__fenced_at=None, node__retired_at=None)
    if run.dry_run:  # a roll call under way is asked no second time, and never weakened
        rows = rows.exclude(probe_wanted_at__isnull=False, probe_answered_at=None)
    ids = dict(rows.values_list("pk", "node_id"))
    ManagerRecord.objects.filter(pk__in=ids, state=RecordState.LIVE).update(
        probe_wanted_at=now,
        probe_mode=ProbeMode.REPORT if run.dry_run else ProbeMode.CLOSE,
        probe_answered_at=None,
        probe_verdict="",
        probe_evidence="",
    )
    taken.bells = set(ids.values())
    taken.detail = f"{len(ids)} asked on {len(taken.bells)} nodes"
    return True


def _free(taken: _Taken) -> bool:
    if not taken.run.dry_run:
        taken.detail = f"{_free_lost(taken)} freed of nodes that are gone"
    return True


def _free_lost(taken: _Taken) -> int:
    """Free what nodes that are gone have left. Asked again while the run waits: a witness may have become steady."""
    rows = [row for row in taken.rows() if row.state != RecordState.CLOSED]
    lapsed = {row.node_id for row in rows if row.node.lapsed(taken.now)}
    if lapsed and lifecycle.fence(taken.values, lapsed):
        rows = [row for row in taken.rows() if row.state != RecordState.CLOSED]
    freed = 0
    for node in {row.node_id: row.node for row in rows if row.node.gone}.values():
        freed += lifecycle.end(
            [row.pk for row in rows if row.node_id == node.pk],
            CloseReason.NODE_DRAINING if node.retired_at else CloseReason.NODE_LOST,
            evidence_of(node),
            actor=taken.actor,
            now=taken.now,
            run=taken.run,
        )
    return freed


def _evict(taken: _Taken) -> bool:
    """A cleanup: back to the soft limit, once the roll call has had its time. A reset: everything it is about."""
    run = taken.run
    if run.kind == RunKind.RESET and not run.dry_run:
        ordered = lifecycle.order_close(
            ManagerRecord.objects.filter(pk__in=run.stock),
            CloseReason.RESET,
            f"reset: {run.reason}",
            actor=taken.actor,
            now=taken.now,
            run=run,
        )
        taken.bells = set(ordered.values())
        taken.detail = f"{len(ordered)} told to close"
        return True
    if not run.dry_run:
        _free_lost(taken)
    # Two beats are for the order to reach its node and for the answer to come back. They are counted a quarter short,
    # so that the eviction itself falls within them.
    deadline = taken.values.probe_seconds + 1.75 * taken.values.beat_seconds
    if taken.since_roll_call() < deadline and any(_awaited(row, taken) for row in taken.rows()):
        return False
    if run.dry_run:
        return True
    evicted = _evict_over(taken)
    taken.detail = f"{evicted} evicted" if evicted else "not over the limit"
    return True


def _evict_over(taken: _Taken) -> int:
    return sum(_evict_in(pool, taken) for pool in sorted({row.pool for row in taken.rows()} | _pools_of(taken.run)))


def _pools_of(run: RecoveryRun) -> set[str]:
    return set(ManagerRecord.objects.counted().filter(user_id=run.user_id).values_list("pool", flat=True))


def _evict_in(pool: str, taken: _Taken) -> int:
    gate = UserGate.objects.filter(user_id=taken.user_id, pool=pool).select_for_update().first()
    if gate is None or (taken.values.observe and taken.run.actor_kind == ActorKind.SYSTEM):
        return 0
    counted = gates.counted_holdings({taken.user_id}, taken.now, taken.values)[taken.user_id, pool]
    dying = {row.pk for row in taken.rows() if finding_of(row, taken.run, taken.now).verdict in DEAD}
    living = [holding for holding in counted if holding.id not in dying]
    soft_limit = gate.limit_at(taken.now, taken.values.soft_limit)
    victims = policy.excess(living, soft_limit)
    ordered = lifecycle.order_close(
        ManagerRecord.objects.filter(pk__in=[victim.id for victim in victims]),
        CloseReason.EVICTED,
        f"ranked first of {len(living)} at a limit of {soft_limit}, after a roll call",
        actor=taken.actor,
        now=taken.now,
        run=taken.run,
    )
    taken.bells |= set(ordered.values())
    if ordered:
        taken.run.stock = sorted({*taken.run.stock, *(str(pk) for pk in ordered)})
    return len(ordered)


def _awaited(row: ManagerRecord, taken: _Taken) -> bool:
    """Whether a node may still say something of this record."""
    if row.state != RecordState.LIVE or row.node.gone:
        return False
    if taken.run.dry_run and row.node_id in lifecycle.would_fence(taken.values, taken.now):
        return False
    answered = row.probe_answered_at is not None and row.probe_answered_at >= (taken.run.roll_call_at or taken.now)
    return not answered or (row.probe_verdict in DEAD and not taken.run.dry_run)


def _confirm(taken: _Taken) -> bool:
    """Wait, at most two leases, for nodes that have not answered and for closes that are not confirmed."""
    run = taken.run
    if not run.dry_run:
        _free_lost(taken)
        if run.kind == RunKind.CLEANUP:
            _evict_over(taken)  # who connected above the limit meanwhile found this run open, and opened none
    rows = taken.rows()
    waiting = [row for row in rows if row.state == RecordState.CLOSING and not run.dry_run]
    if run.kind == RunKind.CLEANUP or run.dry_run:
        waiting += [row for row in rows if _awaited(row, taken)]
    if waiting and taken.since_roll_call() < 2 * taken.values.lease_seconds:
        return False
    taken.detail = f"{len(waiting)} not confirmed" if waiting else "all confirmed"
    return True


def _follow_up(taken: _Taken) -> None:
    """A run of its own for whoever connected above the limit after the last look of this one, and found it open."""
    run, values = taken.run, taken.values
    if run.kind == RunKind.RESET or run.dry_run or run.error or values.observe:
        return
    limits = {  # locked: an admission under way either is counted here, or finds this run finished
        gate.pool: gate.limit_at(taken.now, values.soft_limit)
        for gate in UserGate.objects.filter(user_id=taken.user_id).order_by("user_id", "pool").select_for_update()
    }
    counted = gates.counted_holdings({taken.user_id}, taken.now, values)
    if any(len(holdings) > limits.get(pool, values.soft_limit) for (_, pool), holdings in counted.items()):
        gates.open_system_runs({taken.user_id}, taken.now)


def _verify(taken: _Taken) -> bool:
    """Count again, from the records."""
    run = taken.run
    conclude(run, taken.now, taken.values)
    taken.detail = f"{run.before} before, {run.after} after"
    return True


def _report(taken: _Taken) -> bool:
    run = taken.run
    run.finished_at = taken.now
    run.outcome = Outcome.FAILED if run.error else outcome_of(run)
    taken.detail = run.outcome
    logger.info(
        "run_finished",
        extra={"run": str(run.pk), "user": str(run.user_id), "kind": run.shown_kind, "outcome": run.outcome},
    )
    return True


STEP_OF: dict[Step, Callable[[_Taken], bool]] = {
    Step.TAKE_STOCK: _take_stock,
    Step.ROLL_CALL: _roll_call,
    Step.FREE: _free,
    Step.EVICT: _evict,
    Step.CONFIRM: _confirm,
    Step.VERIFY: _verify,
    Step.REPORT: _report,
}
