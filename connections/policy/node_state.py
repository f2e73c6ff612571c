"""The state of a node, from its row and the time. Badges, verdicts, runs, the admin and commands all ask
`node_state`, so that none of them contradicts another.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from connections.policy.states import Verdict


class NodeState(StrEnum):
    ALIVE = "alive"
    LATE = "late"  # it has not renewed for a beat and a half
    LAPSED = "lapsed"  # it has not renewed for a whole lease, and nobody has fenced it yet
    FENCED = "fenced"
    RETIRED = "retired"  # it drained and gave up its lease by itself
    DRAINING = "draining"

    @property
    def gone(self) -> bool:
        """Whether it will never own a record again."""
        return self in (NodeState.FENCED, NodeState.RETIRED)


class NodeRow(Protocol):
    """The columns that decide a node's state. Times are on the database's clock; None: not happened."""

    renewed_at: Any
    lease_expires_at: Any
    steady_since: Any
    drain_wanted_at: Any
    retired_at: Any
    fenced_at: Any


def node_state(node: NodeRow, now: datetime, late_seconds: float) -> NodeState:
    """Return the node's state at `now`. Fenced and retired come before lapsed and late; draining comes last."""
    if node.fenced_at is not None:
        return NodeState.FENCED
    if node.retired_at is not None:
        return NodeState.RETIRED
    if node.lease_expires_at < now:
        return NodeState.LAPSED
    if now - node.renewed_at > timedelta(seconds=late_seconds):
        return NodeState.LATE
    return NodeState.ALIVE if node.drain_wanted_at is None else NodeState.DRAINING


def is_steady(node: NodeRow, now: datetime, late_seconds: float, lease_seconds: float) -> bool:
    """Whether it was on time for a whole lease; only then may it witness a fence."""
    if node_state(node, now, late_seconds) not in (NodeState.ALIVE, NodeState.DRAINING):
        return False
    return bool(now - node.steady_since >= timedelta(seconds=lease_seconds))


def verdict_by_node(state: NodeState, *, fenceable: bool) -> Verdict | None:
    """Return the verdict that a node's state implies for its held managers; None: ask the client.

    `fenceable`: a steady witness exists, so the node would be fenced now. Without one, a lapsed node may still renew,
    so its managers are UNKNOWN.
    """
    match state:
        case NodeState.FENCED:
            return Verdict.NODE_LOST
        case NodeState.RETIRED:
            return Verdict.MOVED
        case NodeState.LAPSED:
            return Verdict.NODE_LOST if fenceable else Verdict.UNKNOWN
    return None
