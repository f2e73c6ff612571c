"""The audit trail: filtered, the latest first; a page, or all of it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db.models import Q, QuerySet

from connections.models import AuditEntry
from console.reports import cursor

PAGE = 50
BATCH = 500  # rows per query of the export, which bounds its memory


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """A filter of audit entries. An empty field filters nothing."""

    q: str = ""
    action: str = ""
    actor_kind: str = ""
    since: date | None = None
    until: date | None = None
    """The last day that is included, in UTC."""


@dataclass(frozen=True, slots=True)
class AuditPage:
    entries: list[AuditEntry]
    next_cursor: str


def audit_page(wanted: AuditFilter, after: str) -> AuditPage:
    entries = _entries(wanted)
    position = _position(after)
    if position is not None:
        entries = _beyond(entries, *position)
    found = list(entries[: PAGE + 1])
    if len(found) <= PAGE:
        return AuditPage(found, "")
    last = found[PAGE - 1]
    return AuditPage(found[:PAGE], cursor.encode(last.at.isoformat(), last.pk))


async def audit_batches(wanted: AuditFilter) -> AsyncIterator[list[AuditEntry]]:
    """Yield all entries in batches of one query each: no transaction stays open while a client reads slowly."""
    entries = _entries(wanted)
    while batch := [entry async for entry in entries[:BATCH]]:
        yield batch
        entries = _beyond(_entries(wanted), batch[-1].at, batch[-1].pk)


def actions_known() -> list[str]:
    return list(AuditEntry.objects.order_by("action").values_list("action", flat=True).distinct())


def _entries(wanted: AuditFilter) -> QuerySet[AuditEntry]:
    entries = AuditEntry.objects.order_by("-at", "-pk")
    if wanted.q:
        columns = ("actor", "user_label", "target", "reason", "outcome")
        matches = Q()
        for column in columns:
            matches |= Q(**{f"{column}__icontains": wanted.q})
        entries = entries.filter(matches)
    if wanted.action:
        entries = entries.filter(action=wanted.action)
    if wanted.actor_kind:
        entries = entries.filter(actor_kind=wanted.actor_kind)
    if wanted.since:
        entries = entries.filter(at__gte=datetime.combine(wanted.since, time(), UTC))
    if wanted.until:
        entries = entries.filter(at__lt=datetime.combine(wanted.until + timedelta(days=1), time(), UTC))
    return entries


def _beyond(entries: QuerySet[AuditEntry], at: datetime, key: int) -> QuerySet[AuditEntry]:
    return entries.filter(Q(at__lt=at) | Q(at=at, pk__lt=key))


def _position(after: str) -> tuple[datetime, int] | None:
    values: Any = cursor.decode(after, (str, int))
    if values is None:
        return None
    try:
        at = datetime.fromisoformat(values[0])
    except ValueError:
        return None
    return (at, values[1]) if at.tzinfo is not None else None
