"""Recovery runs: each is a state machine in its row. `advance` locks the run, takes the next step that the facts
allow, and commits. Any node and any waiting command may call it; if the caller dies, a later beat continues the run.
"""

import logging
import time
from contextlib import suppress
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from typing import Any
from uuid import UUID

from django.db import DatabaseError, IntegrityError

from connections import database, metrics
from connections.bus import ring
from connections.conf import Tunables, tunables
from connections.models import RecoveryRun, RunStep
from connections.policy.actor import Actor
from connections.policy.states import STEPS, Outcome, RunKind, Step
from connections.records.audit import audited
from connections.recovery import due
from connections.recovery.budget import Budget
from connections.recovery.steps import STEP_OF, StepContext, follow_up

logger = logging.getLogger(__name__)

STEPS_A_ROUND = 20  # of one run in one round; a run has seven, so this only bounds a bug


def request(
    user: Any, kind: RunKind, *, actor: Actor, reason: str, dry_run: bool = False, action: str = "", delay: float = 0.0
) -> tuple[RecoveryRun, bool]:
    """Open a run, or join the one of this kind that is open for the user. A dry run joins none. A new run takes its
    first step after `delay` seconds, so that many can be paced.

    Returns (run, whether it was joined). Writes the audit entry, and rings all nodes. Of two concurrent calls one opens
    the run, and the constraint makes the other join it. Database errors are raised.
    """
    action = action or ("dry_run" if dry_run else kind.value)
    with audited(actor, action, user=user, reason=reason) as audit, database.atomic():
        run, joined = _open_or_join(user, kind, actor, reason, dry_run, delay)
        audit.done("joined" if joined else "opened", target=str(run.pk), run=run)
    ring()
    return run, joined


def _open_or_join(
    user: Any, kind: RunKind, actor: Actor, reason: str, dry_run: bool, delay: float
) -> tuple[RecoveryRun, bool]:
    for _ in range(2):
        # IntegrityError: another caller opened a run in between. Join that run, unless it has ended since.
        with suppress(IntegrityError), database.atomic():
            return _open_unless_open(user, kind, actor, reason, dry_run, delay)
    return _open_unless_open(user, kind, actor, reason, dry_run, delay)


def _open_unless_open(
    user: Any, kind: RunKind, actor: Actor, reason: str, dry_run: bool, delay: float
) -> tuple[RecoveryRun, bool]:
    if not dry_run:
        same = RecoveryRun.objects.open().filter(user=user, kind=kind, dry_run=False).first()
        if same is not None:
            return same, True
    now = database.now()
    run = RecoveryRun.objects.create(
        user_id=user.pk,
        user_label=user.get_username()[:200],
        kind=kind,
        dry_run=dry_run,
        actor_kind=actor.kind,
        actor=actor.label[:200],
        reason=reason[:500],
        opened_at=now,
        due_at=now + timedelta(seconds=delay),
    )
    facts = {"run": str(run.pk), "user": str(user.pk), "kind": run.shown_kind, "actor": run.actor, "reason": run.reason}
    database.on_commit(partial(logger.info, "run_opened", extra=facts))
    return run, False


class Progress(Enum):
    """How far `take_steps` came."""

    MOVED = "a step was taken, and the next may be due"
    WAITS = "its next step is not due"
    LOCKED = "another transaction holds the run, or a lock that it needs"
    LEFT = "only a newer version knows its step or its kind"
    FINISHED = "it has finished"


def advance(run_id: UUID, values: Tunables | None = None) -> RecoveryRun:
    """Take the steps of one run that are due, each in a transaction of its own. Returns the run as it is then.

    Raises RecoveryRun.DoesNotExist.
    """
    take_steps(run_id, values or tunables())
    return RecoveryRun.objects.get(pk=run_id)


def take_steps(run_id: UUID, values: Tunables, budget: Budget | None = None) -> Progress:
    """Take the steps of one run that are due, until the budget is over. It waits for no lock of another transaction."""
    progress = Progress.MOVED
    for _ in range(STEPS_A_ROUND):
        try:
            progress = _advance_once(run_id, values)
        except DatabaseError as error:
            if not database.is_busy(error):
                raise
            logger.warning("run_found_lock", extra={"run": str(run_id), "error": str(error)})
            return Progress.LOCKED
        if progress is not Progress.MOVED or (budget is not None and budget.spent):
            break
    return progress


def wait(run_id: UUID, timeout: float) -> RecoveryRun:
    """Advance a run until it has finished, or `timeout` seconds are over. Blocks: for management commands."""
    deadline = time.monotonic() + timeout
    while True:
        run = advance(run_id)
        if run.finished_at is not None or time.monotonic() >= deadline:
            return run
        time.sleep(min(0.2, tunables().beat_seconds / 4))


def _advance_once(run_id: UUID, values: Tunables) -> Progress:
    """Take one step, if it is due and this version knows it."""
    with database.atomic():
        # NO KEY: rows that refer to a run, such as the audit entry of somebody who joins it, need not wait.
        locked = RecoveryRun.objects.select_for_update(skip_locked=True, no_key=True)
        run = locked.filter(pk=run_id).first()
        if run is None:
            return Progress.LOCKED
        if run.finished_at is not None:
            return Progress.FINISHED
        step, now = Step(run.step), database.now()
        if not (step.known and RunKind(run.kind).known):
            return Progress.LEFT
        if not due.is_due(run, now):
            return Progress.WAITS
        due.bring_back(run, now)
        if run.user_id is None:  # user_id=None would match the records of every deleted user
            end_as_failed(run, now, "the account was deleted meanwhile")
            return Progress.FINISHED
        context = StepContext(run, now, values)
        done = _take_step(step, context)
        finished = context.run.finished_at is not None
        if done and not finished:
            run.step = STEPS[STEPS.index(step) + 1]
            run.due_at = now
        elif not done:  # from the current time, since the step may have taken long
            run.due_at = database.now() + timedelta(seconds=min(due.PAUSE_SECONDS, values.beat_seconds / 4))
        run.save()
        if finished:
            follow_up(context)
            database.on_commit(partial(_log_finished, run))
        if context.bells:
            bells = set(context.bells)
            database.on_commit(lambda: ring(bells))
        return Progress.FINISHED if finished else Progress.MOVED if done else Progress.WAITS


def end_as_failed(run: RecoveryRun, now: datetime, error: str) -> None:
    """End a run that no step can end, in the transaction that has locked it."""
    run.finished_at, run.outcome, run.error = now, Outcome.FAILED, error
    run.save()
    database.on_commit(partial(_log_finished, run))


def _log_finished(run: RecoveryRun) -> None:
    seconds = run.duration_ms / 1000
    metrics.runs.labels(run.shown_kind, run.outcome).observe(seconds)
    facts = {"kind": run.shown_kind, "outcome": run.outcome, "before": run.before, "after": run.after}
    logger.info(
        "run_finished",
        extra={"run": str(run.pk), "user": str(run.user_id), "seconds": seconds, "error": run.error} | facts,
    )


def _take_step(step: Step, context: StepContext) -> bool:
    """Take a step in a savepoint. If it fails, record the error and go on with the run; the report shows what was not
    done. False if the step is not due yet, or waits for a lock of another transaction.
    """
    run, now = context.run, context.now
    try:
        with database.atomic():
            done = STEP_OF[step](context)
    except Exception as error:  # a step that fails is in the report, and the run goes on
        if isinstance(error, DatabaseError) and database.is_busy(error):
            logger.warning("run_found_lock", extra={"run": str(run.pk), "step": step, "error": str(error)})
            return False
        if isinstance(error, database.AWAY):
            raise
        logger.exception("step_failed", extra={"run": str(run.pk), "step": step})
        RunStep.objects.create(run=run, step=step, at=now, error=str(error)[:500])
        run.error = run.error or f"{step}: {error}"[:500]
        if step is Step.REPORT:
            run.finished_at, run.outcome = now, Outcome.FAILED
        return True
    if done:
        RunStep.objects.create(run=run, step=step, at=now, detail=context.detail[:500])
    return done
