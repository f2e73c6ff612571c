"""History's end: closed records, runs, refusals and nodes older than they are kept. Audit entries only on request."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from connections import database
from connections.models import AuditEntry, ManagerRecord, Node, RecoveryRun, Refusal

BATCH = 500  # rows a transaction: some 20 ms, so that nobody waits long for what it holds


def outdated(older_than: timedelta, *, audit: bool) -> "dict[str, QuerySet[Any]]":
    """What is past its time, by kind."""
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
    """Delete all of it. Returns how many of each kind."""
    deleted: Counter[str] = Counter()
    for kind, count in prune_in_batches(older_than, audit=audit):
        deleted[kind] += count
    return deleted


def prune_in_batches(older_than: timedelta, *, audit: bool) -> Iterator[tuple[str, int]]:
    """Delete it step by step, for those who have other things to do: each step of the iteration deletes one batch, and
    says of what kind and how many.
    """
    for kind, rows in outdated(older_than, audit=audit).items():
        while count := _delete_batch(rows):
            yield kind, count


@transaction.atomic
def _delete_batch(rows: "QuerySet[Any]") -> int:
    # What another node is deleting is skipped, so that no two wait for each other.
    ids = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True)[:BATCH])
    if ids:
        rows.model._default_manager.filter(pk__in=ids).delete()
    return len(ids)
