"""Runs at a step, or of a kind, that only a newer version knows."""

from datetime import timedelta
from typing import Any

import pytest

from connections import database
from connections.conf import tunables
from connections.models import RecoveryRun
from connections.policy.actor import Actor
from connections.policy.states import Outcome, RunKind, Step
from connections.recovery import runs
from connections.recovery.open_runs import LEFT_SECONDS, OpenRuns
from tests.support.rows import make_run, make_user

pytestmark = pytest.mark.django_db(transaction=True)
VALUES = tunables()


def logged(caplog: pytest.LogCaptureFixture, run: RecoveryRun) -> int:
    return sum(
        record.message == "run_of_newer_version" and record.__dict__["run"] == str(run.pk) for record in caplog.records
    )


@pytest.mark.parametrize("newer", [{"step": Step("compensate")}, {"kind": RunKind("unblock")}], ids=["step", "kind"])
def test_a_run_of_a_newer_version_is_left_as_it_is_and_logged_once(
    newer: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(make_user("ada"), **newer)
    other = make_run(make_user("bob"))
    each = OpenRuns(VALUES)
    for _ in range(3):
        each.advance()
        each.look_at_foreign()
    before = dict(RecoveryRun.objects.filter(pk=run.pk).values()[0])
    runs.advance(run.pk)
    assert RecoveryRun.objects.filter(pk=run.pk).values()[0] == before
    assert (before["finished_at"], before["error"], run.steps.count()) == (None, "", 0)
    other.refresh_from_db()
    assert other.outcome == Outcome.NOTHING_TO_DO
    assert logged(caplog, run) == 1


def test_a_thousand_runs_of_a_newer_version_delay_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connections.recovery.open_runs.BATCH", 2)
    for number in range(20):
        make_run(make_user(f"user-{number}"), step=Step("compensate"), ago=60)
    mine = make_run(make_user("ada"))
    taken: list[object] = []
    take_steps = runs.take_steps

    def noting(*given: Any) -> runs.Progress:
        taken.append(given[0])
        return take_steps(*given)

    monkeypatch.setattr(runs, "take_steps", noting)
    OpenRuns(VALUES).advance()
    assert taken == [mine.pk]


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that time.monotonic() returns."""
    real = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: real[0])
    return real


def look_for(each: OpenRuns, moment: list[float], seconds: float) -> None:
    """Look at each sweep for so many seconds."""
    until = moment[0] + seconds
    each.look_at_foreign()
    while moment[0] < until:
        moment[0] += VALUES.sweep_seconds
        each.look_at_foreign()


def test_a_run_that_no_node_knows_any_more_ends_so_that_the_next_can_begin(moment: list[float]) -> None:
    """The release that had the step was rolled back."""
    ada = make_user("ada")
    run = make_run(ada, step=Step("compensate"))
    each = OpenRuns(VALUES)
    look_for(each, moment, LEFT_SECONDS - VALUES.sweep_seconds)
    run.refresh_from_db()
    assert run.finished_at is None
    look_for(each, moment, VALUES.sweep_seconds)
    run.refresh_from_db()
    assert (run.outcome, run.error) == (Outcome.FAILED, "no node that runs knows 'compensate'")
    _, joined = runs.request(ada, RunKind.CLEANUP, actor=Actor.command(), reason="stuck")
    assert not joined


def test_a_run_that_a_newer_node_advances_is_never_ended(moment: list[float]) -> None:
    run = make_run(make_user("ada"), step=Step("compensate"))
    each = OpenRuns(VALUES)
    for number in range(4):
        RecoveryRun.objects.update(due_at=database.now() - timedelta(seconds=number))
        look_for(each, moment, LEFT_SECONDS / 2)
    run.refresh_from_db()
    assert run.finished_at is None


def test_the_time_in_which_the_database_was_away_is_not_counted(moment: list[float]) -> None:
    run = make_run(make_user("ada"), step=Step("compensate"))
    each = OpenRuns(VALUES)
    look_for(each, moment, LEFT_SECONDS / 2)
    moment[0] += 600
    look_for(each, moment, LEFT_SECONDS / 2)
    run.refresh_from_db()
    assert run.finished_at is None
