"""The sweep, which every node makes each few seconds: fence lapsed nodes, free records that are proven dead, and open
runs for users over the limit. No leader is needed; locked rows are skipped; a bad row is set aside.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import DatabaseError
from django.db.models import Count, Q

from connections import database
from connections.conf import Tunables
from connections.models import ManagerRecord, RecoveryRun
from connections.policy.actor import Actor
from connections.policy.states import Action, ActorKind, CloseReason, Outcome, RecordState, RunKind
from connections.records import counting, lease, lifecycle, system_runs
from connections.records.lifecycle import Ending
from connections.recovery.findings import evidence_of

logger = logging.getLogger(__name__)

BATCH = 100  # rows a transaction: small, so that its locks are short
SET_ASIDE_SECONDS = 60.0  # a bad row needs a person; often enough to notice the repair
SET_ASIDE_MAXIMUM = 10 * BATCH  # bad rows kept in memory; more than that means another fault
RUN_AGAIN_SECONDS = 60.0  # a run that failed would fail again in the next sweep and fill the history


@dataclass(slots=True)
class Swept:
    """The result of a pass, or of `would_sweep`: records freed by close reason, records that failed, nodes and runs."""

    freed: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    fenced: int = 0
    runs_opened: int = 0

    def as_json(self) -> dict[str, Any]:
        return {"freed": dict(self.freed), "failed": self.failed}


class SetAside:
    """In-memory list of records that could neither be freed nor marked in their row; skipped for SET_ASIDE_SECONDS."""

    def __init__(self) -> None:
        self._until: dict[UUID, datetime] = {}

    def add(self, pk: UUID, now: datetime) -> None:
        if len(self._until) >= SET_ASIDE_MAXIMUM:  # drop the oldest, so the sweep retries it
            del self._until[next(iter(self._until))]
        self._until[pk] = now + timedelta(seconds=SET_ASIDE_SECONDS)

    def at(self, now: datetime) -> set[UUID]:
        self._until = {pk: until for pk, until in self._until.items() if until > now}
        return set(self._until)


def sweep(tunables: Tunables, label: str, set_aside: SetAside | None = None) -> Swept:
    """Make one pass. Any process may call this at any time; a repeated caller keeps `set_aside` between passes."""
    swept = Swept(fenced=len(lease.fence(tunables)))
    set_aside = SetAside() if set_aside is None else set_aside
    for batch in _batches(set_aside.at(database.now())):
        swept.freed += _free_batch(batch, label, swept, set_aside)
    if not tunables.observe:
        swept.runs_opened = open_runs(tunables)
    if swept.freed or swept.failed:
        logger.info("swept", extra={"freed": dict(swept.freed), "failed": swept.failed, "fenced": swept.fenced})
    return swept


def would_sweep(tunables: Tunables) -> Swept:
    """Return what a pass would free. Changes nothing."""
    now = database.now()
    lost = lease.would_fence(tunables, now)
    rows = ManagerRecord.objects.held().filter(_ownerless(now) | Q(node_id__in=lost))
    swept = Swept(fenced=len(lost))
    for state, reason, retired in rows.values_list("state", "close_reason", "node__retired_at"):
        swept.freed[_reason(state, reason, retired is not None)] += 1
    return swept


def open_runs(tunables: Tunables) -> int:
    """Open a cleanup run of the system for each user over the soft limit in a pool, whatever the cause."""
    now = database.now()
    counts = (
        ManagerRecord.objects.counted()
        .filter(user__isnull=False)
        .values_list("user_id", "pool")
        .annotate(counted=Count("pk"))
        .filter(counted__gt=1)
    )
    crowded = {(user_id, pool): counted for user_id, pool, counted in counts}
    limits = counting.limits_of({user_id for user_id, _ in crowded}, now, tunables)
    limit_of = {key: limits[key].soft_limit for key in crowded}
    over = {key: counted - limit_of[key] for key, counted in crowded.items() if counted > limit_of[key]}
    return system_runs.open_system_runs({user_id for user_id, _ in over} - _in_vain(over, now), now)


def _in_vain(over: dict[tuple[Any, str], int], now: datetime) -> set[Any]:
    """Return users for whom another run would do no more than the last one, which ended within RUN_AGAIN_SECONDS: that
    run failed, or the user's excess is the records that it could not close. `over`: the excess by (user, pool).

    Only the sweep checks this: an admission opens its run in any case, since it added a record.
    """
    runs = RecoveryRun.objects.filter(
        user_id__in={user_id for user_id, _ in over},
        kind=RunKind.CLEANUP,
        dry_run=False,
        actor_kind=ActorKind.SYSTEM,
        finished_at__gt=now - timedelta(seconds=RUN_AGAIN_SECONDS),
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
    worth = {user_id for (user_id, pool), excess in over.items() if excess > unmoved[user_id, pool]}
    return failed | (set(last) - worth)


def _ownerless(now: datetime) -> Q:
    gone = Q(node__fenced_at__isnull=False) | Q(node__retired_at__isnull=False)
    return gone & (Q(sweep_retry_at=None) | Q(sweep_retry_at__lt=now))


def _reason(state: str, close_reason: str, retired: bool) -> str:
    if state == RecordState.CLOSING:
        return close_reason
    return CloseReason.NODE_DRAINING if retired else CloseReason.NODE_LOST


def _batches(but: set[UUID]) -> Iterator[list[UUID]]:
    """Yield the held records of gone nodes in batches. Each record comes up once, so that a pass always ends."""
    rows = ManagerRecord.objects.held().filter(_ownerless(database.now())).exclude(pk__in=but).order_by("pk")
    ids = list(rows.values_list("pk", flat=True)[:BATCH])
    while ids:
        yield ids
        ids = list(rows.filter(pk__gt=ids[-1]).values_list("pk", flat=True)[:BATCH])


def _free_batch(ids: list[UUID], label: str, swept: Swept, set_aside: SetAside) -> Counter[str]:
    """Free a batch; on error, free its records one by one. Returns how many were freed, by close reason."""
    now = database.now()
    try:
        with database.atomic():
            return _free(ids, label, now)
    except database.AWAY:
        raise
    except database.Busy as error:  # a lock, not a bad row: the next sweep retries
        logger.warning("sweep_busy", extra={"error": str(error), "records": len(ids)})
        return Counter()
    except DatabaseError as error:
        logger.warning("sweep_batch_replayed", extra={"error": str(error), "records": len(ids)})
    freed: Counter[str] = Counter()
    for pk in ids:
        try:
            with database.atomic():
                freed += _free([pk], label, now)
        except database.AWAY:
            raise
        except database.Busy as error:
            logger.warning("sweep_busy", extra={"error": str(error), "manager": str(pk)})
        except DatabaseError as error:
            swept.failed += 1
            logger.exception("sweep_failed", extra={"manager": str(pk)})
            _mark_set_aside(pk, error, now, set_aside)
    return freed


def _mark_set_aside(pk: UUID, error: DatabaseError, now: datetime, set_aside: SetAside) -> None:
    """Mark the row, so that every node skips it for SET_ASIDE_SECONDS and the console shows why. If the mark can't be
    written either, keep the record in `set_aside`, in memory.
    """
    try:
        with database.atomic():
            ManagerRecord.objects.filter(pk=pk).update(
                sweep_error=str(error)[:300], sweep_retry_at=now + timedelta(seconds=SET_ASIDE_SECONDS)
            )
    except database.AWAY:
        raise
    except DatabaseError:
        logger.exception("sweep_not_marked", extra={"manager": str(pk), "seconds": SET_ASIDE_SECONDS})
        set_aside.add(pk, now)


def _free(ids: Sequence[UUID], label: str, now: datetime) -> Counter[str]:
    """Free the records that still belong to a gone node and that no other transaction has locked."""
    rows = (
        ManagerRecord.objects.held()
        .filter(_ownerless(now), pk__in=ids)
        .select_related("node")
        .select_for_update(skip_locked=True, of=("self",), no_key=True)
        .order_by("pk")
    )
    by_node: dict[UUID, list[ManagerRecord]] = {}
    for row in rows:
        by_node.setdefault(row.node_id, []).append(row)
    freed: Counter[str] = Counter()
    for group in by_node.values():
        node = group[0].node
        reason = CloseReason.NODE_DRAINING if node.retired_at else CloseReason.NODE_LOST
        lifecycle.end([row.pk for row in group], Ending(reason, evidence_of(node), Actor.system(label)), now)
        freed.update(_reason(row.state, row.close_reason, node.retired_at is not None) for row in group)
    return freed
