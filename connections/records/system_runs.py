"""The cleanup runs that the system itself opens, for users over their soft limit."""

import logging
from datetime import datetime
from functools import partial
from typing import Any

from django.contrib.auth import get_user_model

from connections import database
from connections.models import RecoveryRun
from connections.policy.states import ActorKind, RunKind

logger = logging.getLogger(__name__)

SYSTEM_REASON = "over the soft limit"


def open_system_runs(user_ids: set[Any], now: datetime) -> int:
    """Open a cleanup run of the system for each user without one. Of concurrent calls the constraint lets one win."""
    if not user_ids:
        return 0
    taken = set(
        RecoveryRun.objects.open()
        .filter(user_id__in=user_ids, kind=RunKind.CLEANUP, dry_run=False)
        .values_list("user_id", flat=True)
    )
    wanted = [user_id for user_id in user_ids if user_id not in taken]
    labels = {u.pk: u.get_username() for u in get_user_model()._default_manager.filter(pk__in=wanted)}
    runs = [
        RecoveryRun(
            user_id=user_id,
            user_label=labels.get(user_id, "")[:200],
            kind=RunKind.CLEANUP,
            actor_kind=ActorKind.SYSTEM,
            reason=SYSTEM_REASON,
            opened_at=now,
            due_at=now,
        )
        for user_id in wanted
    ]
    RecoveryRun.objects.bulk_create(runs, ignore_conflicts=True)
    for run in runs:  # two concurrent calls both log it, though only one run is stored
        facts = {"run": str(run.pk), "user": str(run.user_id), "kind": run.kind, "actor": "", "reason": run.reason}
        database.on_commit(partial(logger.info, "run_opened", extra=facts))
    return len(wanted)
