"""The timeline of one user: runs, audit entries, closed managers and refusals, the latest first."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.urls import reverse

from connections.models import AuditEntry, ManagerRecord, RecoveryRun, Refusal
from connections.policy.states import ActorKind
from console import wording

SHOWN = 40
CLOSED_LOOKED_AT = 200  # the latest opened: the history's index is by opening time, and few managers stay open for long


@dataclass(frozen=True, slots=True)
class Event:
    at: datetime
    kind: str
    title: str
    detail: str = ""
    actor: str = ""
    url: str = ""


def timeline_of(user: Any) -> list[Event]:
    """Return the latest events. Four queries, each with a LIMIT and an index that begins with the user."""
    events = [*_runs(user), *_audited(user), *_closed(user), *_refused(user)]
    events.sort(key=lambda event: event.at, reverse=True)
    return events[:SHOWN]


def who(kind: str, label: str) -> str:
    """Return `lead (staff)`, or the kind alone if the actor has no name."""
    if kind == ActorKind.SYSTEM:
        return "automatic"
    return f"{label} ({kind})" if label else kind


def _runs(user: Any) -> list[Event]:
    events = []
    for run in RecoveryRun.objects.filter(user=user).defer("findings", "stock").order_by("-opened_at")[:SHOWN]:
        counts = f"{run.before} → {run.after} held" if run.before is not None and run.after is not None else ""
        result = wording.result_of(run.outcome, dry_run=run.dry_run)
        events.append(
            Event(
                at=run.opened_at,
                kind="run",
                title=f"{wording.in_words(run.shown_kind, wording.KINDS)}: {result}",
                detail=", ".join(part for part in (counts, run.reason) if part),
                actor=who(run.actor_kind, run.actor),
                url=reverse("console:run", args=[run.pk]),
            )
        )
    return events


def _audited(user: Any) -> list[Event]:
    # Entries with a run are left out: the timeline has the run itself.
    entries = AuditEntry.objects.filter(user=user, run=None).order_by("-at")[:SHOWN]
    return [
        Event(
            at=entry.at,
            kind="audit",
            title=entry.action.replace("_", " ").capitalize(),
            detail=", ".join(part for part in (entry.target, entry.reason, entry.outcome) if part),
            actor=who(entry.actor_kind, entry.actor),
        )
        for entry in entries
    ]


def _closed(user: Any) -> list[Event]:
    """Return one event per close. Managers that one run closed for the same reason share an event."""
    records = ManagerRecord.objects.filter(user=user).select_related("node").order_by("-opened_at")[:CLOSED_LOOKED_AT]
    together: dict[Any, list[ManagerRecord]] = defaultdict(list)
    for record in records:
        if record.closed_at is not None:
            together[(record.run_id, record.close_reason) if record.run_id else record.pk].append(record)
    return [_close(group) for group in together.values()]


def _close(group: list[ManagerRecord]) -> Event:
    record = max(group, key=lambda each: each.closed_at or each.opened_at)
    if len(group) == 1:
        what = f"Manager {str(record.id)[:8]} on {record.node.name}"
        detail = record.evidence
    else:
        what = wording.count_of(len(group), "manager")
        nodes = sorted({each.node.name for each in group})
        detail = "on " + ", ".join(nodes)
    return Event(
        at=record.closed_at or record.opened_at,
        kind="closed",
        title=f"{what}: {wording.in_words(record.close_reason, wording.REASONS)}",
        detail=detail,
        actor=who(record.actor_kind, record.actor),
        url=reverse("console:run", args=[record.run_id]) if record.run_id else "",
    )


def _refused(user: Any) -> list[Event]:
    refusals = Refusal.objects.filter(user=user).select_related("node").order_by("-at")[:SHOWN]
    return [
        Event(
            at=refusal.at,
            kind="refused",
            title=f"{wording.count_of(refusal.count, 'handshake')} refused: "
            f"{wording.in_words(refusal.cause, wording.REFUSALS)}",
            detail=f"on {refusal.node.name}" if refusal.node else "",
        )
        for refusal in refusals
    ]
