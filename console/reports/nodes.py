"""The nodes: those that may own records, and those that ended lately."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, Q

from connections.conf import tunables
from connections.models import ManagerRecord, Node
from connections.policy.node_state import NodeState, is_steady
from connections.policy.states import RecordState

GONE_SHOWN = 20  # about a screen; the admin lists all


@dataclass(frozen=True, slots=True)
class NodeRow:
    node: Node
    state: NodeState
    steady: bool
    held: int
    counted: int

    @property
    def can_drain(self) -> bool:
        """Whether the node can carry out the order: it serves, has not ended, and is not draining yet."""
        return self.node.serves and not self.node.gone and self.node.drain_wanted_at is None

    @property
    def trouble(self) -> bool:
        return self.state in (NodeState.LATE, NodeState.LAPSED) or (self.node.gone and self.held > 0)


def node_row(node: Node, now: datetime) -> NodeRow:
    return _rows([node], now)[0]


def current_nodes(now: datetime) -> list[NodeRow]:
    """Return the nodes that are neither fenced nor retired, and ended nodes with held records, by name."""
    left_behind = ManagerRecord.objects.held().values("node_id")
    nodes = Node.objects.filter(Q(fenced_at=None, retired_at=None) | Q(pk__in=left_behind))
    return _rows(list(nodes.order_by("name", "-started_at")), now)


def gone_nodes(now: datetime) -> list[NodeRow]:
    gone = Node.objects.exclude(fenced_at=None, retired_at=None).order_by("-renewed_at")[:GONE_SHOWN]
    return [row for row in _rows(list(gone), now) if not row.held]


def _rows(nodes: list[Node], now: datetime) -> list[NodeRow]:
    counts = _counts([node.pk for node in nodes])
    values = tunables()
    return [
        NodeRow(
            node,
            node.state_at(now, values.late_seconds),
            is_steady(node, now, values.late_seconds, values.lease_seconds),
            *counts.get(node.pk, (0, 0)),
        )
        for node in nodes
    ]


def _counts(node_ids: list[UUID]) -> dict[Any, tuple[int, int]]:
    """Return {node id: (held, counted)}, from the held records only."""
    rows = (
        ManagerRecord.objects.held()
        .filter(node_id__in=node_ids)
        .order_by()
        .values("node_id")
        .annotate(held=Count("pk"), counted=Count("pk", filter=Q(state=RecordState.LIVE)))
    )
    return {row["node_id"]: (row["held"], row["counted"]) for row in rows}
