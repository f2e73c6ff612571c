"""Which open runs are due, whatever has become of the database's clock since their times were written."""

from datetime import datetime, timedelta

from django.db.models import Q

from connections.models import RecoveryRun
from connections.policy.states import STEPS, RunKind, Step

PAUSE_SECONDS = 0.25  # at most, until a step that waits is looked at again
LONGEST_PAUSE = timedelta(seconds=4 * PAUSE_SECONDS)
LONGEST_DELAY = timedelta(seconds=100)  # of a run's first step: a thousand paced runs

OURS = Q(step__in=STEPS, kind__in=tuple(RunKind))
"""The runs at a step and of a kind that this version knows."""


def is_due(run: RecoveryRun, now: datetime) -> bool:
    """Whether a run's next step is due: its time has come, or lies further ahead than any time that was ever written,
    since the database's clock was set back.
    """
    longest = LONGEST_DELAY if run.step == Step.TAKE_STOCK else LONGEST_PAUSE
    return run.due_at <= now or run.opened_at > now or run.due_at > now + longest


def where_due(now: datetime) -> Q:
    """The condition of `is_due`."""
    paused = ~Q(step=Step.TAKE_STOCK) & Q(due_at__gt=now + LONGEST_PAUSE)
    return Q(due_at__lte=now) | Q(opened_at__gt=now) | Q(due_at__gt=now + LONGEST_DELAY) | paused


def bring_back(run: RecoveryRun, now: datetime) -> None:
    """Move the times of a run that lie ahead of the database's clock back to `now`, so that what counts from them does
    not wait until the clock is there again.
    """
    run.opened_at = min(run.opened_at, now)
    if run.roll_call_at is not None:
        run.roll_call_at = min(run.roll_call_at, now)
