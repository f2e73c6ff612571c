"""The bounds of a chaos run: by when something must have happened, given the faults on the node."""

from tests.chaos import bounds
from tests.chaos.history import Window
from tests.support.chaos_history import CALM, FROZEN, KILLED, good_history


def test_a_bound_is_due_after_a_time_without_a_fault_on_the_node() -> None:
    history = good_history()
    assert bounds.due(history, "node-1", CALM, 1.0) == CALM + 1.0 + bounds.MARGIN
    thawed = FROZEN + 6 + bounds.RECONNECT
    assert bounds.due(history, "node-3", FROZEN + 1, 1.0) == thawed + 1.0 + bounds.MARGIN
    assert bounds.lost_due(history, KILLED) == KILLED + bounds.LOST + bounds.MARGIN
    history.windows.append(Window("database_restart", "database", KILLED - 1, KILLED + 20))
    assert bounds.lost_due(history, KILLED) == KILLED + 20 + bounds.RECONNECT + bounds.LOST + bounds.MARGIN
