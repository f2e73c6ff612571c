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
from django.db.models import Q

from connections import database
from connections.conf import Tunables
from connections.models import ManagerRecord
from connections.policy.actor import Actor
from connections.policy.states import CloseReason, RecordState
from connections.records import lease, lifecycle
from connections.records.lifecycle import Ending
from connections.recovery.budget import Budget
from connections.recovery.crowding import open_runs
from connections.recovery.findings import evidence_of
from connections.recovery.set_aside import SET_ASIDE_SECONDS, SetAside

logger = logging.getLogger(__name__)

BATCH = 100  # rows a transaction: small, so that its locks are short


@dataclass(slots=True)
class Swept:
    """The result of a pass, or of `would_sweep`: records freed by close reason, records that failed, nodes and runs."""

    freed: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    fenced: int = 0
    runs_opened: int = 0

    def as_json(self) -> dict[str, Any]:
        return {"freed": dict(self.freed), "failed": self.failed}


class Sweep:
    """The passes of one process over the records of gone nodes. Each ends with the runs for users over the limit.

    A pass that a budget ends goes on in the next call. Each record comes up once in a pass, so that it always ends.
    """

    def __init__(self, tunables: Tunables, label: str) -> None:
        self._tunables = tunables
        self._label = label
        self._set_aside = SetAside()
        self._under_way: Iterator[None] | None = None
        self._swept = Swept()

    @property
    def unfinished(self) -> bool:
        """Whether the budget ended the last call before its pass was over."""
        return self._under_way is not None

    def go_on(self, budget: Budget | None = None) -> Swept:
        """Fence; then begin a pass, or go on with the one under way, until the budget is over."""
        swept = self._swept = Swept(fenced=len(lease.fence(self._tunables)))
        steps, self._under_way = self._under_way or self._pass(), None
        for _ in steps:  # an error ends the pass; the next call begins another
            if budget is not None and budget.spent:
                self._under_way = steps
                break
        if swept.freed or swept.failed:
            logger.info("swept", extra={"freed": dict(swept.freed), "failed": swept.failed, "fenced": swept.fenced})
        return swept

    def _pass(self) -> Iterator[None]:
        """Make one pass, and yield after each of its transactions."""
        for ids in _batches(self._set_aside.at(database.now())):
            yield from self._free_batch(ids)
        if not self._tunables.observe:
            self._swept.runs_opened = open_runs(self._tunables)

    def _free_batch(self, ids: list[UUID]) -> Iterator[None]:
        """Free a batch; on error, free its records one by one."""
        try:
            self._free(ids)
        except DatabaseError as error:
            if database.is_busy(error):  # a lock, not a bad row: the next pass retries
                logger.warning("sweep_busy", extra={"error": str(error), "records": len(ids)})
            elif isinstance(error, database.AWAY):
                raise
            else:
                logger.warning("sweep_batch_replayed", extra={"error": str(error), "records": len(ids)})
                for pk in ids:
                    yield
                    self._free_one(pk)
        yield

    def _free_one(self, pk: UUID) -> None:
        try:
            self._free([pk])
        except DatabaseError as error:
            if database.is_busy(error):
                logger.warning("sweep_busy", extra={"error": str(error), "manager": str(pk)})
                return
            if isinstance(error, database.AWAY):
                raise
            self._swept.failed += 1
            logger.exception("sweep_failed", extra={"manager": str(pk)})
            self._mark_set_aside(pk, error)

    def _free(self, ids: list[UUID]) -> None:
        with database.atomic():
            freed = _free(ids, self._label, database.now())
        self._swept.freed += freed

    def _mark_set_aside(self, pk: UUID, error: DatabaseError) -> None:
        """Mark the row, so that every node skips it for SET_ASIDE_SECONDS and the console shows why. If the mark can't
        be written either, keep the record in memory.
        """
        now = database.now()
        try:
            with database.atomic():
                if pk in lifecycle.lock_available([pk]):
                    ManagerRecord.objects.filter(pk=pk).update(
                        sweep_error=str(error)[:300], sweep_retry_at=now + timedelta(seconds=SET_ASIDE_SECONDS)
                    )
        except DatabaseError as unmarked:
            if isinstance(unmarked, database.AWAY) and not database.is_busy(unmarked):
                raise
            logger.exception("sweep_not_marked", extra={"manager": str(pk), "seconds": SET_ASIDE_SECONDS})
            self._set_aside.add(pk, now)


def sweep(tunables: Tunables, label: str) -> Swept:
    """Make one whole pass. Any process may call this at any time."""
    return Sweep(tunables, label).go_on()


def would_sweep(tunables: Tunables) -> Swept:
    """Return what a pass would free. Changes nothing."""
    now = database.now()
    lost = lease.would_fence(tunables, now)
    rows = ManagerRecord.objects.held().filter(_ownerless(now) | Q(node_id__in=lost))
    swept = Swept(fenced=len(lost))
    for state, reason, retired in rows.values_list("state", "close_reason", "node__retired_at"):
        swept.freed[_reason(state, reason, retired is not None)] += 1
    return swept


def _ownerless(now: datetime) -> Q:
    gone = Q(node__fenced_at__isnull=False) | Q(node__retired_at__isnull=False)
    # Later ones were set aside before the database's clock was set back.
    later = now + timedelta(seconds=SET_ASIDE_SECONDS)
    return gone & (Q(sweep_retry_at=None) | Q(sweep_retry_at__lt=now) | Q(sweep_retry_at__gt=later))


def _reason(state: str, close_reason: str, retired: bool) -> str:
    if state == RecordState.CLOSING:
        return close_reason
    return CloseReason.NODE_DRAINING if retired else CloseReason.NODE_LOST


def _batches(but: set[UUID]) -> Iterator[list[UUID]]:
    """Yield the held records of gone nodes in batches, each record once."""
    rows = ManagerRecord.objects.held().exclude(pk__in=but).order_by("pk")
    ids = list(rows.filter(_ownerless(database.now())).values_list("pk", flat=True)[:BATCH])
    while ids:
        yield ids
        later = rows.filter(_ownerless(database.now()), pk__gt=ids[-1])
        ids = list(later.values_list("pk", flat=True)[:BATCH])


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
