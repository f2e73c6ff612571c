"""The state of a node, which follows from its row and the time."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from connections.policy.node_state import NodeState, is_steady, node_state, verdict_by_node
from connections.policy.states import Verdict

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATE, LEASE = 3.0, 10.0  # the defaults


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


@dataclass
class Row:
    renewed_at: datetime
    lease_expires_at: datetime
    steady_since: datetime
    drain_wanted_at: datetime | None = None
    retired_at: datetime | None = None
    fenced_at: datetime | None = None


def silent(seconds: float) -> Row:
    return Row(ago(seconds), ago(seconds - LEASE), ago(60))


@pytest.mark.parametrize(
    ("row", "state"),
    [
        (silent(0), NodeState.ALIVE),
        (silent(LATE), NodeState.ALIVE),
        (silent(LATE + 0.001), NodeState.LATE),
        (silent(LEASE), NodeState.LATE),
        (silent(LEASE + 0.001), NodeState.LAPSED),
        (replace(silent(0), drain_wanted_at=NOW), NodeState.DRAINING),
        (replace(silent(LATE + 1), drain_wanted_at=NOW), NodeState.LATE),
        (replace(silent(LEASE + 1), drain_wanted_at=NOW), NodeState.LAPSED),
        (replace(silent(0), drain_wanted_at=ago(9), retired_at=NOW), NodeState.RETIRED),
        (replace(silent(99), retired_at=ago(80)), NodeState.RETIRED),
        (replace(silent(0), fenced_at=NOW), NodeState.FENCED),
        (replace(silent(99), drain_wanted_at=ago(98), fenced_at=NOW), NodeState.FENCED),
    ],
)
def test_gone_comes_before_lapsed_and_lapsed_before_draining(row: Row, state: NodeState) -> None:
    assert node_state(row, NOW, LATE) is state


def test_only_fenced_and_retired_nodes_are_gone() -> None:
    assert [state for state in NodeState if state.gone] == [NodeState.FENCED, NodeState.RETIRED]


@pytest.mark.parametrize(
    ("row", "steady"),
    [
        (silent(0), True),
        (replace(silent(0), steady_since=ago(LEASE)), True),
        (replace(silent(0), steady_since=ago(LEASE - 0.001)), False),
        (silent(LATE + 0.001), False),
        (replace(silent(0), drain_wanted_at=NOW), True),
        (replace(silent(0), fenced_at=NOW), False),
        (replace(silent(0), retired_at=NOW), False),
    ],
)
def test_a_node_is_steady_after_a_whole_lease_without_being_late(row: Row, steady: bool) -> None:
    assert is_steady(row, NOW, LATE, LEASE) is steady


@pytest.mark.parametrize(
    ("state", "without_witness", "with_witness"),
    [
        (NodeState.ALIVE, None, None),
        (NodeState.LATE, None, None),
        (NodeState.DRAINING, None, None),
        (NodeState.LAPSED, Verdict.UNKNOWN, Verdict.NODE_LOST),
        (NodeState.FENCED, Verdict.NODE_LOST, Verdict.NODE_LOST),
        (NodeState.RETIRED, Verdict.MOVED, Verdict.MOVED),
    ],
)
def test_a_silent_node_is_lost_only_if_there_is_a_witness(
    state: NodeState, without_witness: Verdict | None, with_witness: Verdict | None
) -> None:
    assert verdict_by_node(state, fenceable=False) is without_witness
    assert verdict_by_node(state, fenceable=True) is with_witness
