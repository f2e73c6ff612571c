"""The only writer of record state.

A transition is one conditional UPDATE whose row count is checked; losing a race is normal, and then the first
reason written stands. Every function runs in its caller's transaction, or is a transaction of its own.

A transaction that changes several records locks all of them before the first change, in one statement. It passes over
those that another transaction has locked, so it waits for nobody, and two such transactions never deadlock. Gates are
locked before records.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from django.db import DatabaseError
from django.db.models import Case, F, QuerySet, Value, When
from django.db.models.functions import Concat, Left

from connections import database, metrics
from connections.models import ManagerRecord, RecoveryRun
from connections.policy.actor import Actor
from connections.policy.states import CloseReason, RecordState

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

LOCKED_ELSEWHERE = "another transaction has locked it"


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a record ends: what its row says from then on. `run` is the recovery run that ended it, if one did."""

    reason: CloseReason
    evidence: str
    actor: Actor
    run: RecoveryRun | None = None

    def columns(self) -> dict[str, Any]:
        return {
            "close_reason": self.reason,
            "evidence": self.evidence[:500],
            "actor_kind": self.actor.kind,
            "actor": self.actor.label[:200],
            "run": self.run,
        }


def lock_available(ids: Iterable[UUID], *, counted: bool = False) -> set[UUID]:
    """Lock those of these held records that no other transaction holds, until this one ends. Never waits.

    `counted`: only those that still take a slot. Returns the ids of the locked records. What is not among them is
    locked elsewhere, closed (with `counted`: or closing), or does not exist.
    """
    wanted = sorted(ids)
    if not wanted or not database.current().features.has_select_for_update:  # SQLite has one writer
        return set(wanted)
    records = ManagerRecord.objects.counted() if counted else ManagerRecord.objects.held()
    rows = records.filter(pk__in=wanted).order_by("pk")
    return set(rows.select_for_update(skip_locked=True, no_key=True).values_list("pk", flat=True))


def held_among(ids: Iterable[UUID]) -> set[UUID]:
    """Which of these records are held: of those that could not be locked, the ones that somebody else has locked."""
    wanted = list(ids)
    return set(ManagerRecord.objects.held().filter(pk__in=wanted).values_list("pk", flat=True)) if wanted else set()


def order_close(records: "QuerySet[ManagerRecord]", ending: Ending, now: datetime) -> dict[UUID, UUID]:
    """live -> closing: order the node that holds the socket to close it. The record takes no slot from now on.

    Returns {record id: node id} of the records that were live until now. Those that another transaction has locked are
    passed over. Call this in a transaction.
    """
    rows = list(
        records.filter(state=RecordState.LIVE)
        .order_by("pk")
        .select_for_update(of=("self",), skip_locked=True, no_key=True)
        .values_list("pk", "node__name", "user_id", "node_id")
    )
    found = {pk: node_id for pk, _, _, node_id in rows}
    if found:
        ManagerRecord.objects.filter(pk__in=found, state=RecordState.LIVE).update(
            state=RecordState.CLOSING, closing_at=now, **ending.columns()
        )
        metrics.closed(ending.reason, len(found))
        _log("manager_closing", [row[:3] for row in rows], ending)
    return found


def end(ids: Iterable[UUID], ending: Ending, now: datetime) -> int:
    """live or closing -> closed. A `closing` record keeps the reason it was closing for; if its client got another
    reason, the evidence has that too. Returns how many were still held. Lock all the records before the call.
    """
    wanted = list(ids)
    held = ManagerRecord.objects.filter(pk__in=wanted)
    from_live = held.filter(state=RecordState.LIVE).update(state=RecordState.CLOSED, closed_at=now, **ending.columns())
    from_closing = held.filter(state=RecordState.CLOSING).update(
        state=RecordState.CLOSED,
        closed_at=now,
        evidence=Case(
            When(close_reason=ending.reason, then=F("evidence")),
            default=Left(Concat(F("evidence"), Value(f"; then {ending.reason}: {ending.evidence}")), 500),
        ),
    )
    metrics.closed(ending.reason, from_live)
    return from_live + from_closing


def end_each(ids: Iterable[UUID], ending: Ending, now: datetime) -> tuple[int, dict[UUID, str]]:
    """`end` records whose sockets are gone. On error, retry row by row so that one bad row doesn't block the others.

    Returns how many were still held, and the error of each record that could not be ended.
    """

    done, failed = _together_or_singly(lambda some: _end_freed(some, ending, now), ids, ending.reason)
    return sum(done), failed


def end_available(ids: Iterable[UUID], ending: Ending, now: datetime) -> int:
    """`end` those of these records that no other transaction has locked, in one transaction. Nothing is tried twice.

    Returns how many were still held.
    """
    with database.atomic():
        return _end_freed(sorted(lock_available(ids)), ending, now)


def _end_freed(ids: list[UUID], ending: Ending, now: datetime) -> int:
    held = ManagerRecord.objects.held().filter(pk__in=ids)
    _log("manager_freed", held.values_list("pk", "node__name", "user_id"), ending)
    return end(ids, ending, now)


def order_each(ids: Iterable[UUID], ending: Ending, now: datetime) -> tuple[dict[UUID, UUID], dict[UUID, str]]:
    """`order_close`. On error, retry row by row so that one bad row doesn't block the others.

    Returns {record id: node id} of the records that were live until now, and the error of each that failed.
    """

    def change(some: list[UUID]) -> dict[UUID, UUID]:
        return order_close(ManagerRecord.objects.filter(pk__in=some), ending, now)

    done, failed = _together_or_singly(change, ids, ending.reason)
    return {pk: node_id for ordered in done for pk, node_id in ordered.items()}, failed


def _together_or_singly(
    change: Callable[[list[UUID]], Result], ids: Iterable[UUID], reason: CloseReason
) -> tuple[list[Result], dict[UUID, str]]:
    """Apply `change` to all records in one transaction; if that fails, to each record in its own transaction.

    Returns the results of the changes, and the error of each record that failed; one that stays locked counts as
    failed. Raises database.AWAY.
    """
    wanted = sorted(ids)
    try:
        with database.atomic():
            locked = lock_available(wanted)
            changed = change([pk for pk in wanted if pk in locked])
            return [changed], dict.fromkeys(held_among(set(wanted) - locked), LOCKED_ELSEWHERE)
    except database.AWAY:
        raise
    except DatabaseError as error:
        logger.warning(
            "records_changed_one_by_one", extra={"error": str(error), "records": len(wanted), "reason": reason}
        )
    done, failed = list[Result](), dict[UUID, str]()
    for pk in wanted:
        try:
            with database.atomic():
                if lock_available([pk]):
                    done.append(change([pk]))
                elif held_among([pk]):
                    failed[pk] = LOCKED_ELSEWHERE
        except database.AWAY:
            raise
        except DatabaseError as error:
            logger.exception("record_not_changed", extra={"manager": str(pk), "reason": reason})
            failed[pk] = str(error)
    return done, failed


def _log(event: str, rows: Iterable[tuple[UUID, str, Any]], ending: Ending) -> None:
    """Log one line for each record after the commit. `rows`: (manager, name of its node, user)."""
    why = {
        "reason": ending.reason,
        "evidence": ending.evidence,
        "actor": ending.actor.label or ending.actor.kind,
        "run": str(ending.run.pk) if ending.run else "",
    }
    lines: list[dict[str, str]] = [
        {"manager": str(pk), "node": node, "user": str(user_id)} | why for pk, node, user_id in rows
    ]

    def log_lines() -> None:
        for line in lines:
            logger.info(event, extra=line)

    database.on_commit(log_lines)


def accepted(ids: Iterable[UUID], now: datetime) -> int:
    """Mark records as accepted. Returns how many were not marked before. Lock all the records before the call."""
    return ManagerRecord.objects.filter(pk__in=list(ids), accepted_at=None).update(accepted_at=now)
