"""The only writer of record state, and of the lease and the fence.

A transition is one conditional UPDATE whose row count is checked; losing a race is normal, and then the first
reason written stands. Every function runs in its caller's transaction, or is a transaction of its own.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from django.db import DatabaseError, connection, transaction
from django.db.models import Case, Exists, F, QuerySet, Value, When
from django.db.models.functions import Concat, Left

from connections import database
from connections.conf import Tunables
from connections.models import AuditEntry, ManagerRecord, Node, RecoveryRun
from connections.states import ActorKind, CloseReason, RecordState

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did something. `label` is a username, or the name of a node."""

    kind: ActorKind
    label: str = ""
    user_id: Any = None
    ip: str | None = None

    @classmethod
    def system(cls, label: str = "") -> Self:
        return cls(ActorKind.SYSTEM, label)

    @classmethod
    def command(cls, label: str = "command line") -> Self:
        return cls(ActorKind.COMMAND, label)

    @classmethod
    def staff(cls, user: Any, ip: str | None = None) -> Self:
        return cls(ActorKind.STAFF, user.get_username(), user.pk, ip)

    @classmethod
    def user(cls, user: Any, ip: str | None = None) -> Self:
        return cls(ActorKind.USER, user.get_username(), user.pk, ip)


class NodeGone(Exception):
    """This node was fenced or has retired: it may write no more under this identity."""


def audit(
    actor: Actor,
    action: str,
    *,
    user: Any = None,
    target: str = "",
    reason: str = "",
    outcome: str = "",
    run: RecoveryRun | None = None,
) -> AuditEntry:
    return AuditEntry.objects.create(
        at=database.now(),
        actor_kind=actor.kind,
        actor_user_id=actor.user_id,
        actor=actor.label[:200],
        ip=actor.ip,
        action=action,
        user=user,
        user_label=user.get_username()[:200] if user is not None else "",
        target=target[:200],
        reason=reason[:500],
        outcome=outcome[:500],
        run=run,
    )


# Records


def order_close(
    records: "QuerySet[ManagerRecord]",
    reason: CloseReason,
    evidence: str,
    *,
    actor: Actor,
    now: datetime,
    run: RecoveryRun | None = None,
) -> dict[UUID, UUID]:
    """live -> closing: the node that holds the socket shall close it. It takes no slot from now on.

    Returns {record id: node id} of those that were live until now. Call it in a transaction.
    """
    found = dict(
        records.filter(state=RecordState.LIVE)
        .order_by("pk")
        .select_for_update(of=("self",), no_key=True)
        .values_list("pk", "node_id")
    )
    if found:
        ManagerRecord.objects.filter(pk__in=found, state=RecordState.LIVE).update(
            state=RecordState.CLOSING,
            closing_at=now,
            close_reason=reason,
            evidence=evidence[:500],
            actor_kind=actor.kind,
            actor=actor.label[:200],
            run=run,
        )
    return found


def end(
    ids: Iterable[UUID],
    reason: CloseReason,
    evidence: str,
    *,
    actor: Actor,
    now: datetime,
    run: RecoveryRun | None = None,
) -> int:
    """live or closing -> closed. A `closing` record keeps the reason it was closing for; what the client was told
    instead is added to its evidence. Returns how many were still held.
    """
    wanted = list(ids)
    held = ManagerRecord.objects.filter(pk__in=wanted)
    from_live = held.filter(state=RecordState.LIVE).update(
        state=RecordState.CLOSED,
        closed_at=now,
        close_reason=reason,
        evidence=evidence[:500],
        actor_kind=actor.kind,
        actor=actor.label[:200],
        run=run,
    )
    from_closing = held.filter(state=RecordState.CLOSING).update(
        state=RecordState.CLOSED,
        closed_at=now,
        evidence=Case(
            When(close_reason=reason, then=F("evidence")),
            default=Left(Concat(F("evidence"), Value(f"; then {reason}: {evidence}")), 500),
        ),
    )
    return from_live + from_closing


def end_each(
    ids: Iterable[UUID],
    reason: CloseReason,
    evidence: str,
    *,
    actor: Actor,
    now: datetime,
    run: RecoveryRun | None = None,
) -> tuple[int, dict[UUID, str]]:
    """`end`, and where that fails row by row, so that one bad row keeps nobody else's.

    Returns how many were still held, and the error of each that could not be ended.
    """
    wanted = list(ids)
    try:
        with transaction.atomic():
            return end(wanted, reason, evidence, actor=actor, now=now, run=run), {}
    except database.AWAY:
        raise
    except DatabaseError as error:
        logger.warning("ended_singly", extra={"error": str(error), "records": len(wanted)})
    done, failed = 0, dict[UUID, str]()
    for pk in wanted:
        try:
            with transaction.atomic():
                done += end([pk], reason, evidence, actor=actor, now=now, run=run)
        except database.AWAY:
            raise
        except DatabaseError as error:
            logger.exception("end_failed", extra={"manager": str(pk)})
            failed[pk] = str(error)
    return done, failed


def order_each(
    ids: Iterable[UUID],
    reason: CloseReason,
    evidence: str,
    *,
    actor: Actor,
    now: datetime,
    run: RecoveryRun | None = None,
) -> dict[UUID, UUID]:
    """`order_close`, and where that fails row by row. What could not be ordered stays as it is, and is logged."""
    wanted = list(ids)
    try:
        with transaction.atomic():
            rows = ManagerRecord.objects.filter(pk__in=wanted)
            return order_close(rows, reason, evidence, actor=actor, now=now, run=run)
    except database.AWAY:
        raise
    except DatabaseError as error:
        logger.warning("ordered_singly", extra={"error": str(error), "records": len(wanted)})
    ordered: dict[UUID, UUID] = {}
    for pk in wanted:
        try:
            with transaction.atomic():
                row = ManagerRecord.objects.filter(pk=pk)
                ordered |= order_close(row, reason, evidence, actor=actor, now=now, run=run)
        except database.AWAY:
            raise
        except DatabaseError:
            logger.exception("order_failed", extra={"manager": str(pk)})
    return ordered


def accepted(ids: Iterable[UUID], now: datetime) -> int:
    return ManagerRecord.objects.filter(pk__in=list(ids), accepted_at=None).update(accepted_at=now)


# Lease and fence


def renew(node_id: UUID, tunables: Tunables, sockets: int = 0) -> bool:
    """Renew the lease, on the database's clock, and keep steadiness: one UPDATE where not fenced.

    Returns whether somebody wants the node to drain. Raises NodeGone.
    """
    with transaction.atomic():
        now = database.now()
        late = now - timedelta(seconds=tunables.late_seconds)
        expires = now + timedelta(seconds=tunables.lease_seconds)
        renewed = (
            Node.objects.holding()
            .filter(pk=node_id)
            .update(
                steady_since=Case(When(renewed_at__lt=late, then=Value(now)), default=F("steady_since")),
                renewed_at=now,
                lease_expires_at=expires,
                sockets=sockets,
            )
        )
        if not renewed:
            raise NodeGone(str(node_id))
        return Node.objects.filter(pk=node_id, drain_wanted_at__isnull=False).exists()


def register(tunables: Tunables, *, name: str, host: str, pid: int, serves: bool) -> Node:
    """A new incarnation with a lease; steady after a whole one. A restart is a new node."""
    now = database.now()
    return Node.objects.create(
        name=name[:255],
        host=host[:255],
        pid=pid,
        serves=serves,
        capacity=tunables.node_capacity if serves else 0,
        started_at=now,
        renewed_at=now,
        steady_since=now,
        lease_expires_at=now + timedelta(seconds=tunables.lease_seconds),
    )


def hold_node(node_id: UUID) -> None:
    """Keep the fence off this node until the transaction ends. Raises NodeGone if it came first."""
    sql = "SELECT 1 FROM connections_node WHERE id = %s AND fenced_at IS NULL AND retired_at IS NULL"
    if not database.is_sqlite():
        sql += " FOR KEY SHARE"  # the ORM has no word for it; a renewal passes it, the fence's FOR UPDATE does not
    key = Node._meta.pk.get_db_prep_value(node_id, connection)
    with connection.cursor() as cursor:
        cursor.execute(sql, [key])
        if cursor.fetchone() is None:
            raise NodeGone(str(node_id))


def fence(tunables: Tunables, node_ids: Iterable[UUID] | None = None) -> list[Node]:
    """Mark lapsed nodes as lost, once and for all, if a steady witness vouches that the database was reachable.

    Returns the nodes fenced by this call. Sweep, runs and commands all come here; who calls does not matter.
    """
    fenced = []
    with transaction.atomic():
        suspects = Node.objects.lapsed(database.now()).select_for_update(skip_locked=True).order_by("pk")
        if node_ids is not None:
            suspects = suspects.filter(pk__in=list(node_ids))
        for node in suspects:
            now = database.now()
            evidence = f"no renewal since {node.renewed_at:%H:%M:%S} UTC, its lease ended {_ago(now, node)} before"
            done = (
                Node.objects.lapsed(now)
                .filter(Exists(witnesses(now, tunables)), pk=node.pk)
                .update(fenced_at=now, fenced_evidence=evidence)
            )
            if done:
                node.fenced_at, node.fenced_evidence = now, evidence
                fenced.append(node)
    return fenced


def would_fence(tunables: Tunables, now: datetime) -> set[UUID]:
    """The lapsed nodes that the fence would take now. Changes nothing."""
    if not witnesses(now, tunables).exists():
        return set()
    return set(Node.objects.lapsed(now).values_list("pk", flat=True))


def witnesses(now: datetime, tunables: Tunables) -> "QuerySet[Node]":
    return Node.objects.witnesses(
        now, lease=timedelta(seconds=tunables.lease_seconds), late=timedelta(seconds=tunables.late_seconds)
    )


def retire(node_id: UUID) -> bool:
    """A node that has drained, or a command that is done, gives up its lease by itself."""
    return bool(Node.objects.holding().filter(pk=node_id).update(retired_at=database.now()))


def _ago(now: datetime, node: Node) -> str:
    return f"{max(0.0, (now - node.lease_expires_at).total_seconds()):.0f} s"
