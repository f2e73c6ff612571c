"""Pruning: delete closed records, runs, refusals and nodes past their retention; audit entries only on request."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet

from connections import database
from connections.models import AuditEntry, ManagerRecord, Node, RecoveryRun, Refusal

BATCH = 500  # rows a transaction: some 20 ms, so that nobody waits long for its locks


def outdated(older_than: timedelta, *, audit: bool) -> "dict[str, QuerySet[Any]]":
    """Return the rows that are past their retention, by kind."""
    before = database.now() - older_than
    owns = ManagerRecord.objects.filter(node_id=OuterRef("pk"))
    sets: dict[str, QuerySet[Any]] = {
        "records": ManagerRecord.objects.closed().filter(closed_at__lt=before),
        "runs": RecoveryRun.objects.filter(finished_at__lt=before),
        "refusals": Refusal.objects.filter(at__lt=before),
        "nodes": Node.objects.filter(Q(fenced_at__lt=before) | Q(retired_at__lt=before)).filter(~Exists(owns)),
    }
    if audit:
        sets["audit"] = AuditEntry.objects.filter(at__lt=before)
    return sets


def prune(older_than: timedelta, *, audit: bool) -> Counter[str]:
    """Delete all outdated rows. Returns how many of each kind."""
    deleted: Counter[str] = Counter()
    for kind, count in prune_in_batches(older_than, audit=audit):
        deleted[kind] += count
    return deleted


def prune_in_batches(older_than: timedelta, *, audit: bool) -> Iterator[tuple[str, int]]:
    """Delete one batch of outdated rows at each step, so that the caller can do other work in between.

    Yields the kind of the batch and how many rows it had.
    """
    for kind, rows in outdated(older_than, audit=audit).items():
        while count := _delete_batch(rows):
            yield kind, count


@database.atomic()
def _delete_batch(rows: "QuerySet[Any]") -> int:
    # Rows that another node is deleting are skipped, so that no two nodes wait for each other.
    ids = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True)[:BATCH])
    if ids:
        rows.model._default_manager.filter(pk__in=ids).delete()
    return len(ids)
