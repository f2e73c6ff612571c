"""The judges of a chaos run find no violation in a good history, and each judge catches its own kinds of violation."""

import pytest

from tests.chaos.history import LAG, Window
from tests.chaos.judges import JUDGES, judge
from tests.support.chaos_history import CALM, good_history
from tests.support.chaos_violations import VIOLATIONS, Spoil, answered_and_unresponsive


def test_a_good_history_violates_nothing() -> None:
    verdicts = judge(good_history())
    assert {name: verdict.violations for name, verdict in verdicts.items() if not verdict.holds} == {}
    assert all(verdict.checked for verdict in verdicts.values())


def test_each_judge_has_histories_that_it_must_catch() -> None:
    assert VIOLATIONS.keys() == JUDGES.keys()


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        pytest.param(name, spoil, id=f"{name}: {spoil.__name__}")
        for name, spoils in VIOLATIONS.items()
        for spoil in spoils
    ],
)
def test_a_judge_catches_its_violations(name: str, spoil: Spoil) -> None:
    history = good_history()
    spoil(history)
    assert not JUDGES[name](history).holds


def test_a_client_that_was_itself_late_may_be_closed_as_unresponsive() -> None:
    history = good_history()
    answered_and_unresponsive(history)
    history.windows.append(Window(LAG, "", CALM + 7, CALM + 8))
    assert JUDGES["the living are spared"](history).holds
