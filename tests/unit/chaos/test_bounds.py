"""The bounds of a chaos run: when at the latest a thing must have happened, beside what hurt the node."""

from tests.chaos import bounds
from tests.chaos.history import Window
from tests.support.chaos_history import CALM, FROZEN, KILLED, good_history


def test_a_bound_waits_for_a_time_in_which_nobody_hurts_the_node() -> None:
    history = good_history()
    assert bounds.due(history, "node-1", CALM, 1.0) == CALM + 1.0 + bounds.MARGIN
    thawed = FROZEN + 6 + bounds.AFTER
    assert bounds.due(history, "node-3", FROZEN + 1, 1.0) == thawed + 1.0 + bounds.MARGIN
    assert bounds.lost_due(history, KILLED) == KILLED + bounds.LOST + bounds.MARGIN
    history.windows.append(Window("database_restart", "database", KILLED - 1, KILLED + 20))
    assert bounds.lost_due(history, KILLED) == KILLED + 20 + bounds.AFTER + bounds.LOST + bounds.MARGIN
