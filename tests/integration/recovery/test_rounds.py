"""A round of the recovery thread lasts a beat at most, whatever its work, and no work keeps other work waiting."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User

from connections import database
from connections.conf import tunables
from connections.models import ManagerRecord, Node, RecoveryRun
from connections.node.sweeper import Sweeper
from connections.policy.actor import Actor
from connections.policy.states import ActorKind, Outcome, RunKind, Step
from connections.recovery import open_runs, runs
from connections.recovery.budget import Budget
from connections.recovery.open_runs import OpenRuns
from connections.recovery.sweep import Sweep
from tests.support.bad_rows import unwritable
from tests.support.rows import lost_node, make_node, make_records, make_run, make_user
from tests.support.slow_database import StatementClock, statements_take

pytestmark = pytest.mark.django_db(transaction=True)
VALUES = tunables()
LONGEST_STEP = 40  # statements of the longest step or batch of one transaction


def make_users(count: int) -> list[User]:
    return User.objects.bulk_create([User(username=f"user-{number}") for number in range(count)])


def open_many(users: list[User], *, actor: ActorKind = ActorKind.SYSTEM) -> None:
    now = database.now()
    RecoveryRun.objects.bulk_create(
        [
            RecoveryRun(user=user, kind=RunKind.CLEANUP, actor_kind=actor, reason="over", opened_at=now, due_at=now)
            for user in users
        ]
    )


def rounds(sweeper: Sweeper, clock: StatementClock) -> float:
    """Do one round, wait as its thread would, and return how long the round took."""
    began = clock.now
    sweeper.round()
    took = clock.now - began
    clock.now = max(clock.now + 0.01, began + sweeper.next_round())
    return took


def test_a_thousand_open_runs_delay_no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    open_many(make_users(1000))
    ada, witness, took = make_user("ada"), make_node("witness"), []
    with statements_take(0.02, monkeypatch) as clock:
        sweeper = Sweeper(VALUES, "witness")
        clock.now += VALUES.sweep_seconds
        took.append(rounds(sweeper, clock))  # it has swept, and a node's lease ends just after that
        make_records(3, ada, make_node("web-2", silent=60))
        died = clock.now
        while ManagerRecord.objects.held().exists() and len(took) < 10:
            Node.objects.filter(pk=witness.pk).update(renewed_at=database.now())
            took.append(rounds(sweeper, clock))
        freed = clock.now
    assert len(took) > 2, "otherwise this shows nothing"
    assert max(took) <= VALUES.beat_seconds + LONGEST_STEP * clock.seconds
    assert freed - died <= 1.2 * VALUES.sweep_seconds + LONGEST_STEP * clock.seconds
    assert RecoveryRun.objects.open().exists(), "the runs were more than these rounds could advance"
    assert RecoveryRun.objects.exclude(step=Step.TAKE_STOCK).exists(), "and they went on beside the sweep"


def test_freeing_many_records_goes_on_in_the_next_round_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connections.recovery.sweep.BATCH", 5)
    ada, gone = make_user("ada"), lost_node()
    make_records(60, ada, gone)
    make_node("witness")
    run, _ = runs.request(ada, RunKind.RESET, actor=Actor.command(), reason="stuck", dry_run=True)
    with statements_take(0.1, monkeypatch) as clock:
        sweeper, left, took = Sweeper(VALUES, "witness"), [60], []
        clock.now += VALUES.sweep_seconds
        while left[-1]:
            took.append(rounds(sweeper, clock))
            left.append(ManagerRecord.objects.held().count())
    assert len(took) > 3
    assert max(took) <= VALUES.beat_seconds + LONGEST_STEP * clock.seconds
    assert sorted(set(left), reverse=True) == left, "each round frees some"
    run.refresh_from_db()
    assert run.step != Step.TAKE_STOCK, "the run did not wait for the end of it"


def test_a_batch_that_is_replayed_ends_with_the_budget_too(monkeypatch: pytest.MonkeyPatch) -> None:
    make_node("witness")
    bad, *_ = make_records(20, make_user("ada"), lost_node())
    with unwritable(bad), statements_take(0.1, monkeypatch) as clock:
        passes, freed = Sweep(VALUES, "witness"), list[int]()
        while not freed or passes.unfinished:
            began = clock.now
            swept = passes.go_on(Budget(1.0))
            freed.append(swept.freed.total())
            assert clock.now - began <= 1.0 + LONGEST_STEP * clock.seconds
    assert len(freed) > 3
    assert sum(freed) == 19
    assert set(ManagerRecord.objects.held()) == {bad}


def test_runs_that_staff_asked_for_come_before_those_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_runs, "BATCH", 3)
    open_many(make_users(30))
    asked, _ = runs.request(make_user("ada"), RunKind.CLEANUP, actor=Actor.command(), reason="can't connect")
    with statements_take(0.1, monkeypatch):
        OpenRuns(VALUES).advance(Budget(0.5))
    asked.refresh_from_db()
    assert asked.step != Step.TAKE_STOCK
    assert RecoveryRun.objects.exclude(pk=asked.pk).exclude(step=Step.TAKE_STOCK).count() == 0


def test_runs_of_the_system_have_their_turn_however_many_runs_staff_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = make_run(make_user("ada"), actor_kind=ActorKind.SYSTEM, ago=10)
    open_many(make_users(30), actor=ActorKind.STAFF)
    with statements_take(0.1, monkeypatch):
        OpenRuns(VALUES).advance(Budget(0.5))
    mine.refresh_from_db()
    assert mine.step != Step.TAKE_STOCK


def test_a_run_that_can_not_go_on_is_passed_over_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []
    bad, good = make_run(make_user("ada")), make_run(make_user("bob"))
    take_steps = runs.take_steps

    def failing(run_id: object, *rest: object) -> runs.Progress:
        tried.append(run_id)
        if run_id == bad.pk:
            raise ValueError("a bug")
        return take_steps(run_id, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(runs, "take_steps", failing)
    each = OpenRuns(VALUES)
    each.advance()
    each.advance()
    assert tried.count(bad.pk) == 1
    good.refresh_from_db()
    assert good.outcome == Outcome.NOTHING_TO_DO
    moment = database.now() + timedelta(seconds=open_runs.FAILED_SECONDS)
    monkeypatch.setattr(database, "now", lambda: moment)
    each.advance()
    assert tried.count(bad.pk) == 2


def test_no_round_begins_before_something_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    with statements_take(0.01, monkeypatch) as clock:
        sweeper, began = Sweeper(VALUES, "witness"), list[float]()
        for _ in range(40):
            began.append(clock.now)
            rounds(sweeper, clock)
    periods = (began[-1] - began[0]) / VALUES.beat_seconds + (began[-1] - began[0]) / (0.8 * VALUES.sweep_seconds)
    assert len(began) - 1 <= periods + 1, "a round for each beat and each sweep"
