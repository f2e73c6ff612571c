"""The cleanup runs that the system itself opens, for users over their soft limit."""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from connections import database
from connections.models import RecoveryRun
from connections.models.routing import users
from connections.policy.states import ActorKind, RunKind

logger = logging.getLogger(__name__)

SYSTEM_REASON = "over the soft limit"


def without_run(user_ids: Iterable[Any]) -> list[Any]:
    """Return those of these users who have no open cleanup run, in the same order."""
    wanted = list(user_ids)
    taken = set(
        RecoveryRun.objects.open()
        .filter(user_id__in=wanted, kind=RunKind.CLEANUP, dry_run=False)
        .values_list("user_id", flat=True)
    )
    return [user_id for user_id in wanted if user_id not in taken]


def open_system_runs(user_ids: Iterable[Any], now: datetime, pace: float = 0.0) -> int:
    """Open a cleanup run of the system for each user without one, due `pace` seconds apart from `now` on.

    Of concurrent calls the constraint lets one win.
    """
    wanted = without_run(user_ids)
    if not wanted:
        return 0
    labels = {u.pk: u.get_username() for u in users().filter(pk__in=wanted)}
    runs = [
        RecoveryRun(
            user_id=user_id,
            user_label=labels.get(user_id, "")[:200],
            kind=RunKind.CLEANUP,
            actor_kind=ActorKind.SYSTEM,
            reason=SYSTEM_REASON,
            opened_at=now,
            due_at=now + timedelta(seconds=number * pace),
        )
        for number, user_id in enumerate(wanted)
    ]
    RecoveryRun.objects.bulk_create(runs, ignore_conflicts=True)
    for run in runs:  # two concurrent calls both log it, though only one run is stored
        facts = {"run": str(run.pk), "user": str(run.user_id), "kind": run.kind, "actor": "", "reason": run.reason}
        database.on_commit(partial(logger.info, "run_opened", extra=facts))
    return len(wanted)
