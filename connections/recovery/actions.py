"""Actions of staff and users besides recovery: close a manager, close own sessions, set a limit, drain a node.

Each action writes its audit entry in the transaction of the change, or an entry that says that it failed; after the
commit it rings the nodes concerned. Database errors are raised.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from connections import database
from connections.bus import ring
from connections.models import ManagerRecord, Node, UserGate
from connections.policy.actor import Actor
from connections.policy.states import CloseReason
from connections.records import lifecycle
from connections.records.audit import audited
from connections.records.lifecycle import Ending


class Obsolete(Exception):
    """The requester has gone, or no longer wants the action. The message is a sentence for the requester."""


def close_manager(record: ManagerRecord, *, actor: Actor, reason: str) -> bool:
    """Close one manager for staff. False if it was closing or closed already; the audit entry says so too.

    Raises database.Busy if another transaction has locked its record.
    """
    target = str(record.pk)
    with (
        audited(actor, "close_manager", user=record.user, target=target, reason=reason) as audit,
        database.atomic(),
    ):
        ordered = lifecycle.order_close(
            ManagerRecord.objects.filter(pk=record.pk),
            Ending(CloseReason.CLOSED_BY_STAFF, f"closed by {actor.label}: {reason}", actor),
            database.now(),
        )
        if not ordered and ManagerRecord.objects.counted().filter(pk=record.pk).exists():
            raise database.Busy("another transaction has locked the record of this manager: try again in a moment")
        audit.done("told to close" if ordered else "was closed already")
    ring(set(ordered.values()))
    return bool(ordered)


def close_own(
    user: Any,
    ids: list[UUID] | None,
    *,
    except_id: UUID | None = None,
    actor: Actor,
    wanted: Callable[[], bool] = lambda: True,
) -> list[UUID]:
    """Close managers of `user`: those in `ids`, or with None all but `except_id`. Ids of other users are skipped.

    Returns the ids of those that were live until now. Raises Obsolete and closes nothing if the record `except_id` has
    ended (the requester may have reconnected under another id), or if `wanted`, called in the same transaction, is
    False. Records that another transaction has locked are passed over; the audit entry counts them.
    """
    target = f"all but {except_id}" if ids is None else ", ".join(str(pk) for pk in ids)
    with audited(actor, "close_own", user=user, target=target) as audit, database.atomic():
        mine = ManagerRecord.objects.counted().filter(user_id=user.pk)
        if except_id is not None and not mine.filter(pk=except_id).exists():
            raise Obsolete("The session that asked has ended, so nothing was signed out.")
        if not wanted():
            raise Obsolete("This was stopped before it was done.")
        mine = mine.exclude(pk=except_id)
        if ids is not None:
            mine = mine.filter(pk__in=ids)
        ordered = lifecycle.order_close(
            mine, Ending(CloseReason.CLOSED_BY_USER, "closed by its user", actor), database.now()
        )
        locked = mine.count()  # of those that were to be closed, since the others are not counted any more
        outcome = f"{len(ordered)} told to close" + (f", {locked} locked by another transaction" if locked else "")
        audit.done(outcome, target=", ".join(str(pk) for pk in sorted(ordered)))
    ring(set(ordered.values()))
    return sorted(ordered)


def set_limit(
    user: Any,
    pool: str,
    soft_limit: int | None,
    *,
    expires_at: datetime | None = None,
    reason: str,
    actor: Actor,
) -> UserGate:
    """Override the soft limit of a user in a pool; None clears the override. Of two concurrent calls the later one
    stands, and both have audit entries. Raises ValueError for a limit below 1.
    """
    with audited(actor, "set_limit", user=user, target=pool, reason=reason) as audit:
        if soft_limit is not None and soft_limit < 1:
            raise ValueError("The soft limit must be at least 1.")
        UserGate.objects.bulk_create([UserGate(user_id=user.pk, pool=pool)], ignore_conflicts=True)
        with database.atomic():
            gate: UserGate = UserGate.objects.select_for_update().get(user_id=user.pk, pool=pool)
            gate.soft_limit = soft_limit
            gate.expires_at = expires_at if soft_limit is not None else None
            gate.reason = reason[:500]
            gate.set_by = actor.label[:200]
            gate.save()
            until = ""
            if soft_limit is not None and expires_at is not None:
                until = f" until {expires_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
            audit.done("cleared" if soft_limit is None else f"{soft_limit}{until}")
    return gate


def drain(node: Node, *, actor: Actor, reason: str = "") -> bool:
    """Ask a node to drain. False if it is gone, or was asked already."""
    with audited(actor, "drain_node", target=node.name, reason=reason) as audit, database.atomic():
        asked = Node.objects.holding().filter(pk=node.pk, drain_wanted_at=None).update(drain_wanted_at=database.now())
        audit.done("asked to drain" if asked else "was draining or gone already")
    ring({node.pk})
    return bool(asked)
