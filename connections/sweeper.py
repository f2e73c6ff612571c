"""What every node does each few seconds: fence, free what is proven dead, open a run for whoever is over the limit,
and go on with the runs that are open. No leader is needed; locked rows are skipped; a bad row is set aside.
"""

import logging
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import DatabaseError, transaction
from django.db.models import Count, Q

from connections import database, gates, lifecycle, recovery
from connections.conf import Tunables
from connections.findings import evidence_of
from connections.history import prune
from connections.lifecycle import Actor
from connections.models import ManagerRecord, UserGate
from connections.states import CloseReason, RecordState

logger = logging.getLogger(__name__)

BATCH = 100  # rows a transaction: small, so that nobody waits long for a row of it
SET_ASIDE_SECONDS = 60.0
PRUNE_SECONDS = 3600.0


@dataclass(slots=True)
class Swept:
    """What one pass did, or with `dry_run` would do: how many were freed by close reason, how many could not be."""

    freed: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    fenced: int = 0
    runs_opened: int = 0

    def as_json(self) -> dict[str, Any]:
        return {"freed": dict(self.freed), "failed": self.failed}


def sweep(tunables: Tunables, label: str) -> Swept:
    """One pass. Anyone may call it at any time."""
    swept = Swept(fenced=len(lifecycle.fence(tunables)))
    while _free_batch(swept, label):
        pass
    if not tunables.observe:
        swept.runs_opened = open_runs(tunables)
    if swept.freed or swept.failed:
        logger.info("swept", extra={"freed": dict(swept.freed), "failed": swept.failed, "fenced": swept.fenced})
    return swept


def would_sweep(tunables: Tunables) -> Swept:
    """What a pass would free. Changes nothing."""
    now = database.now()
    lost = lifecycle.would_fence(tunables, now)
    rows = ManagerRecord.objects.held().filter(_ownerless(now) | Q(node_id__in=lost))
    swept = Swept(fenced=len(lost))
    for state, reason, retired in rows.values_list("state", "close_reason", "node__retired_at"):
        swept.freed[_reason(state, reason, retired is not None)] += 1
    return swept


def open_runs(tunables: Tunables) -> int:
    """A cleanup run of the system for each user over the soft limit in some pool, whatever the cause."""
    now = database.now()
    counts = (
        ManagerRecord.objects.counted()
        .filter(user__isnull=False)
        .values_list("user_id", "pool")
        .annotate(counted=Count("pk"))
        .filter(counted__gt=1)
    )
    crowded = {(user_id, pool): counted for user_id, pool, counted in counts}
    limits = {
        (g.user_id, g.pool): g.limit_at(now, tunables.soft_limit)
        for g in UserGate.objects.filter(user_id__in={user_id for user_id, _ in crowded})
    }
    over = {key[0] for key, counted in crowded.items() if counted > limits.get(key, tunables.soft_limit)}
    return gates.open_system_runs(over, now)


def _ownerless(now: datetime) -> Q:
    gone = Q(node__fenced_at__isnull=False) | Q(node__retired_at__isnull=False)
    return gone & (Q(sweep_retry_at=None) | Q(sweep_retry_at__lt=now))


def _reason(state: str, close_reason: str, retired: bool) -> str:
    if state == RecordState.CLOSING:
        return close_reason
    return CloseReason.NODE_DRAINING if retired else CloseReason.NODE_LOST


def _free_batch(swept: Swept, label: str) -> bool:
    """Free some records of nodes that are gone. False when there was none."""
    try:
        with transaction.atomic():
            now = database.now()
            rows = _lock_batch(now)
            _free(rows, label, now, swept)
        return bool(rows)
    except database.AWAY:
        raise
    except DatabaseError as error:
        logger.warning("sweep_replayed", extra={"error": str(error)})
        return _free_singly(label, swept)


def _lock_batch(now: datetime) -> list[ManagerRecord]:
    return list(
        ManagerRecord.objects.held()
        .filter(_ownerless(now))
        .select_related("node")
        .select_for_update(skip_locked=True, of=("self",), no_key=True)
        .order_by("pk")[:BATCH]
    )


def _free_singly(label: str, swept: Swept) -> bool:
    now = database.now()
    rows = list(ManagerRecord.objects.held().filter(_ownerless(now)).select_related("node").order_by("pk")[:BATCH])
    for row in rows:
        try:
            with transaction.atomic():
                _free([row], label, now, swept)
        except database.AWAY:
            raise
        except DatabaseError as error:
            swept.failed += 1
            logger.exception("sweep_failed", extra={"manager": str(row.pk)})
            ManagerRecord.objects.filter(pk=row.pk).update(
                sweep_error=str(error)[:300], sweep_retry_at=now + timedelta(seconds=SET_ASIDE_SECONDS)
            )
    return bool(rows)


def _free(rows: Sequence[ManagerRecord], label: str, now: datetime, swept: Swept) -> None:
    by_node: dict[UUID, list[ManagerRecord]] = {}
    for row in rows:
        by_node.setdefault(row.node_id, []).append(row)
    freed: Counter[str] = Counter()
    for group in by_node.values():
        node = group[0].node
        reason = CloseReason.NODE_DRAINING if node.retired_at else CloseReason.NODE_LOST
        lifecycle.end([row.pk for row in group], reason, evidence_of(node), actor=Actor.system(label), now=now)
        freed.update(_reason(row.state, row.close_reason, node.retired_at is not None) for row in group)
    swept.freed.update(freed)


class Sweeper:
    """The sweep and the open runs as rounds of one thread."""

    def __init__(self, tunables: Tunables, label: str) -> None:
        self._tunables = tunables
        self._label = label
        self._sweep_at = time.monotonic() + random.uniform(0.2, 0.8) * tunables.sweep_seconds
        self._prune_at = time.monotonic() + random.uniform(0.01, 1.0) * PRUNE_SECONDS
        self._run_due: float | None = None

    def round(self) -> None:
        now = time.monotonic()
        if self._tunables.sweep_seconds and now >= self._sweep_at:
            # At most 1.2 sweeps apart, which the bounds of the design count on.
            self._sweep_at = now + random.uniform(0.8, 1.15) * self._tunables.sweep_seconds
            sweep(self._tunables, self._label)
        due = recovery.advance_due(self._tunables)
        self._run_due = None if due is None else time.monotonic() + due
        if now >= self._prune_at:
            self._prune_at = now + PRUNE_SECONDS
            prune(timedelta(days=self._tunables.history_days), audit=False)

    def next_round(self) -> float:
        """Seconds until something is due; at most a beat, since another process may have opened a run."""
        now = time.monotonic()
        moments = [now + self._tunables.beat_seconds]
        if self._tunables.sweep_seconds:
            moments.append(self._sweep_at)
        if self._run_due is not None:
            moments.append(self._run_due)
        return max(0.0, min(moments) - now)
