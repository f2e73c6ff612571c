"""A node's lease and its fence are columns of one row, so a renewal and a fence exclude each other.

Each is one conditional UPDATE whose row count is checked: a node that was fenced first may write no more.
"""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from django.db.models import Case, Exists, F, Q, QuerySet, Value, When

from connections import database, metrics
from connections.conf import Tunables
from connections.models import Node
from connections.policy.wording import clock_time

logger = logging.getLogger(__name__)

FENCED_AT_ONCE = 100  # nodes in one transaction; the next sweep has the others


class NodeGone(Exception):
    """This node was fenced or has retired: it may write no more under this identity."""


def renew(node_id: UUID, tunables: Tunables, sockets: int = 0) -> bool:
    """Renew the lease, on the database's clock, in one UPDATE. A late renewal starts `steady_since` anew, and so does
    one after the clock was set back, since nobody knows how late that one is.

    Returns whether somebody wants the node to drain. Raises NodeGone.
    """
    with database.atomic():
        now = database.now()
        late = now - timedelta(seconds=tunables.late_seconds)
        expires = now + timedelta(seconds=tunables.lease_seconds)
        set_back = Q(renewed_at__gt=now) | Q(steady_since__gt=now)
        renewed = (
            Node.objects.holding()
            .filter(pk=node_id)
            .update(
                steady_since=Case(When(Q(renewed_at__lt=late) | set_back, then=Value(now)), default=F("steady_since")),
                renewed_at=now,
                lease_expires_at=expires,
                sockets=sockets,
            )
        )
        if not renewed:
            raise NodeGone(str(node_id))
        return Node.objects.filter(pk=node_id, drain_wanted_at__isnull=False).exists()


def register(tunables: Tunables, *, name: str, host: str, pid: int, serves: bool) -> Node:
    """Create the row of a new node with a lease. The node is steady after a whole lease. A restart is a new node."""
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
    """Keep `fence` from marking this node until the transaction ends. Raises NodeGone if the node is gone already."""
    sql = "SELECT 1 FROM connections_node WHERE id = %s AND fenced_at IS NULL AND retired_at IS NULL"
    if not database.is_sqlite():
        sql += " FOR KEY SHARE"  # not in the ORM; it conflicts with the fence's FOR UPDATE, not with a renewal
    key = Node._meta.pk.get_db_prep_value(node_id, database.current())
    with database.current().cursor() as cursor:
        cursor.execute(sql, [key])
        if cursor.fetchone() is None:
            raise NodeGone(str(node_id))


def holds(node_id: UUID) -> bool:
    """Whether this node may still write under its identity: no other has fenced it, and it has not retired."""
    return Node.objects.holding().filter(pk=node_id).exists()


def fence(tunables: Tunables, node_ids: Iterable[UUID] | None = None) -> list[Node]:
    """Mark lapsed nodes as lost, once and for all, if a steady witness vouches that the database was reachable.

    Returns the nodes fenced by this call. Sweep, runs and commands all call this function.
    """
    fenced = []
    with database.atomic():
        now = database.now()
        doubtful = Node.objects.holding().filter(Q(lease_expires_at__lt=now) | Q(renewed_at__gt=now))
        suspects = doubtful.select_for_update(skip_locked=True).order_by("pk")
        if node_ids is not None:
            suspects = suspects.filter(pk__in=list(node_ids))
        for node in suspects[:FENCED_AT_ONCE]:
            now = database.now()
            if node.renewed_at > now:
                _shorten_lease(node, now)
                continue
            evidence = f"no renewal since {clock_time(node.renewed_at)}, its lease ended {_overdue(now, node)} before"
            done = (
                Node.objects.lapsed(now)
                .filter(Exists(witnesses(now, tunables)), pk=node.pk)
                .update(fenced_at=now, fenced_evidence=evidence)
            )
            if done:
                node.fenced_at, node.fenced_evidence = now, evidence
                fenced.append(node)
                database.on_commit(partial(_report_fenced, node))
    return fenced


def _shorten_lease(node: Node, now: datetime) -> None:
    """Let a lease that was renewed before the database's clock was set back end a whole lease from now: its node, if it
    lives, renews it by then.
    """
    lease = node.lease_expires_at - node.renewed_at
    Node.objects.filter(pk=node.pk).update(renewed_at=now, steady_since=now, lease_expires_at=now + lease)


def _report_fenced(node: Node) -> None:
    metrics.fenced.inc()
    logger.warning("node_fenced", extra={"node": node.name, "id": str(node.pk), "evidence": node.fenced_evidence})


def would_fence(tunables: Tunables, now: datetime) -> set[UUID]:
    """Return the lapsed nodes that `fence` would fence now. Changes nothing."""
    if not witnesses(now, tunables).exists():
        return set()
    return set(Node.objects.lapsed(now).values_list("pk", flat=True))


def witnesses(now: datetime, tunables: Tunables) -> "QuerySet[Node]":
    return Node.objects.witnesses(
        now, lease=timedelta(seconds=tunables.lease_seconds), late=timedelta(seconds=tunables.late_seconds)
    )


def retire(node_id: UUID) -> bool:
    """End the lease of a node that has drained, or of a command that is done. False if the node was gone already."""
    return bool(Node.objects.holding().filter(pk=node_id).update(retired_at=database.now()))


def _overdue(now: datetime, node: Node) -> str:
    return f"{max(0.0, (now - node.lease_expires_at).total_seconds()):.0f} s"
