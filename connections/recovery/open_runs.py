"""Advance the open runs of all users, round by round."""

import logging
import time
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Case, ExpressionWrapper, F, Value, When

from connections import database
from connections.conf import Tunables
from connections.models import RecoveryRun
from connections.policy.states import ActorKind, Step
from connections.recovery import due, runs
from connections.recovery.budget import Budget
from connections.recovery.runs import Progress
from connections.recovery.set_aside import SetAside

logger = logging.getLogger(__name__)

BATCH = 50  # runs read at once; a round advances a few hundred at most
HEAD_START = timedelta(seconds=5)  # somebody waits for what staff asked for, and nobody for a run of the system
FAILED_SECONDS = 5.0  # a run that could not go on is tried again after so long
LEFT_SECONDS = 60.0  # a node that knows the step takes it within a beat


class OpenRuns:
    """The open runs, as one process advances them. It remembers which to pass over for a while."""

    def __init__(self, values: Tunables) -> None:
        self._values = values
        self._aside = SetAside()
        # The runs that only a newer version knows: their due_at, and since when they were met at that.
        self._met: dict[UUID, tuple[datetime, float]] = {}
        self._looked_at = 0.0

    def advance(self, budget: Budget | None = None) -> float | None:
        """Advance each due run once, until the budget is over. Returns the seconds until the next is due; None if none
        is open.
        """
        tried: set[UUID] = set()
        while batch := self._due(tried, now := database.now()):
            for run_id in batch:
                if budget is not None and budget.spent:
                    return 0.0
                tried.add(run_id)
                self._advance(run_id, budget)
        later = RecoveryRun.objects.open().filter(due.OURS, due_at__gt=now).order_by("due_at")
        next_due = later.values_list("due_at", flat=True).first()
        return None if next_due is None else (next_due - now).total_seconds()

    def _due(self, tried: set[UUID], now: datetime) -> list[UUID]:
        """The next of the due runs: in order of time, those of the system behind others."""
        behind = Case(When(actor_kind=ActorKind.SYSTEM, then=Value(HEAD_START)), default=Value(timedelta()))
        order = ExpressionWrapper(F("due_at") + behind, output_field=RecoveryRun._meta.get_field("due_at"))
        found = RecoveryRun.objects.open().filter(due.OURS, due.where_due(now))
        found = found.exclude(pk__in=tried | self._aside.at(now)).order_by(order)
        return list(found.values_list("pk", flat=True)[:BATCH])

    def _advance(self, run_id: UUID, budget: Budget | None) -> None:
        try:
            progress = runs.take_steps(run_id, self._values, budget)
        except database.AWAY:
            raise
        except Exception:  # one run that can't go on must not keep the others
            logger.exception("run_not_advanced", extra={"run": str(run_id)})
            self._aside.add(run_id, database.now(), FAILED_SECONDS)
        else:
            if progress is Progress.LOCKED:  # it isn't due for a moment, and others are
                self._aside.add(run_id, database.now(), self._values.beat_seconds / 4)

    def look_at_foreign(self) -> None:
        """Log each due run that only a newer version can advance, once. End those that no node has advanced for long:
        after a release was rolled back nobody knows their step, and they would keep their users from the next run.
        """
        now, clock = database.now(), time.monotonic()
        foreign = RecoveryRun.objects.open().filter(~due.OURS, due_at__lte=now).order_by("due_at")[:BATCH]
        before, self._met = self._met, {}
        # After a time in which the database was away nobody could have taken a step.
        away = clock - self._looked_at > 3 * max(self._values.sweep_seconds, self._values.beat_seconds)
        self._looked_at = clock
        for run in foreign:
            due_at, since = before.get(run.pk, (None, clock))
            self._met[run.pk] = run.due_at, since if due_at == run.due_at and not away else clock
            if run.pk not in before:
                facts = {"run": str(run.pk), "user": str(run.user_id), "kind": run.kind, "step": run.step}
                logger.warning("run_of_newer_version", extra=facts)
            if clock - self._met[run.pk][1] >= LEFT_SECONDS:
                self._end(run)

    def _end(self, met: RecoveryRun) -> None:
        locked = RecoveryRun.objects.select_for_update(skip_locked=True, no_key=True)
        with database.atomic():
            run = locked.filter(pk=met.pk, due_at=met.due_at, step=met.step, finished_at=None).first()
            if run is not None:
                word = run.kind if Step(run.step).known else run.step
                runs.end_as_failed(run, database.now(), f"no node that runs knows {word!r}")
