"""Runs of the system for users over their soft limit, whatever the cause, paced as bulk recoveries are."""

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count

from connections import database
from connections.conf import Tunables
from connections.models import ManagerRecord, RecoveryRun
from connections.policy.states import Action, ActorKind, Outcome, RunKind
from connections.records import counting, system_runs
from connections.recovery.bulk import PACE_SECONDS

RUN_AGAIN_SECONDS = 60.0  # a run that failed would fail again in the next sweep and fill the history
# Open runs of the system, up to which a sweep opens more. One takes some ten seconds, so ten start each second; more at
# once would only wait for each other, and for them the runs that admissions open.
RUNS_AT_ONCE = 100
USERS = 200  # whose last runs, with their findings, are read at once


def open_runs(tunables: Tunables) -> int:
    """Open a cleanup run of the system for users over the soft limit in a pool, those who are furthest over it first.

    They start PACE_SECONDS apart, and while RUNS_AT_ONCE are open, nobody's is opened: the next sweeps open the rest.
    """
    now = database.now()
    room = RUNS_AT_ONCE - RecoveryRun.objects.open().filter(actor_kind=ActorKind.SYSTEM).count()
    over = _over(tunables, now) if room > 0 else {}
    users = sorted(over, key=lambda user_id: (-sum(over[user_id].values()), str(user_id)))
    worth: list[Any] = []
    for start in range(0, len(users), USERS):
        some = users[start : start + USERS]
        in_vain = _in_vain({user_id: over[user_id] for user_id in some}, now)
        worth += system_runs.without_run(user_id for user_id in some if user_id not in in_vain)
        if len(worth) >= room:
            break
    return system_runs.open_system_runs(worth[:room], now, PACE_SECONDS) if worth else 0


def _over(tunables: Tunables, now: datetime) -> dict[Any, dict[str, int]]:
    """By how much users are over the soft limit in each pool."""
    counts = (
        ManagerRecord.objects.counted()
        .filter(user__isnull=False)
        .values_list("user_id", "pool")
        .annotate(counted=Count("pk"))
        .filter(counted__gt=1)
    )
    crowded = {(user_id, pool): counted for user_id, pool, counted in counts}
    limits = counting.limits_of({user_id for user_id, _ in crowded}, now, tunables)
    over: dict[Any, dict[str, int]] = defaultdict(dict)
    for (user_id, pool), counted in crowded.items():
        excess = counted - limits[user_id, pool].soft_limit
        if excess > 0:
            over[user_id][pool] = excess
    return over


def _in_vain(over: dict[Any, dict[str, int]], now: datetime) -> set[Any]:
    """Return users for whom another run would do no more than the last one, which ended within RUN_AGAIN_SECONDS: that
    run failed, or the user's excess is the records that it could not close. `over`: the excess by user and pool.

    Only the sweep checks this: an admission opens its run in any case, since it added a record.
    """
    runs = RecoveryRun.objects.filter(
        user_id__in=list(over),
        kind=RunKind.CLEANUP,
        dry_run=False,
        actor_kind=ActorKind.SYSTEM,
        finished_at__gt=now - timedelta(seconds=RUN_AGAIN_SECONDS),
        finished_at__lte=now,  # later ones ended before the database's clock was set back
    )
    last = {run.user_id: run for run in runs.order_by("finished_at")}
    failed = {user_id for user_id, run in last.items() if run.outcome == Outcome.FAILED}
    left = {
        UUID(finding["id"])
        for run in last.values()
        for finding in run.findings
        if finding["action"] == Action.UNCONFIRMED
    }
    unmoved = Counter(ManagerRecord.objects.counted().filter(pk__in=left).values_list("user_id", "pool"))
    worth = {
        user_id
        for user_id, pools in over.items()
        if any(excess > unmoved[user_id, pool] for pool, excess in pools.items())
    }
    return failed | (set(last) - worth)
