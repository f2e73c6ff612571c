"""History's end: closed records, runs, refusals and nodes older than they are kept. Audit entries only on request."""

from collections import Counter
from datetime import timedelta
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet

from connections import database
from connections.models import AuditEntry, ManagerRecord, Node, RecoveryRun, Refusal

BATCH = 500


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
    """Delete it in small batches. Returns how many of each kind."""
    deleted: Counter[str] = Counter()
    for kind, rows in outdated(older_than, audit=audit).items():
        while ids := list(rows.values_list("pk", flat=True)[:BATCH]):
            rows.model._default_manager.filter(pk__in=ids).delete()
            deleted[kind] += len(ids)
    return deleted
