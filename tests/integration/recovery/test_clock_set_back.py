"""The database's clock is set back by an hour, so that all that was written before lies an hour ahead of it."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db.models import F

from connections import database
from connections.conf import tunables
from connections.models import ManagerRecord, Node, RecoveryRun
from connections.policy.actor import Actor
from connections.policy.states import ActorKind, Outcome, RunKind, Step
from connections.records import lease
from connections.recovery import runs
from connections.recovery.crowding import open_runs
from connections.recovery.open_runs import OpenRuns
from connections.recovery.sweep import Sweep, sweep
from tests.support.rows import answer_roll_call, lost_node, make_gate, make_node, make_records, make_run, make_user

pytestmark = pytest.mark.django_db(transaction=True)
VALUES = tunables()
HOUR = timedelta(hours=1)
TIMES: dict[Any, tuple[str, ...]] = {
    Node: ("started_at", "renewed_at", "lease_expires_at", "steady_since", "fenced_at"),
    ManagerRecord: ("opened_at", "last_active_at", "probe_wanted_at", "probe_answered_at", "sweep_retry_at"),
    RecoveryRun: ("opened_at", "due_at", "roll_call_at", "finished_at"),
}


def set_back() -> None:
    for model, names in TIMES.items():
        model.objects.update(**{name: F(name) + HOUR for name in names})


def seconds_ahead(moment: datetime) -> float:
    return (moment - database.now()).total_seconds()


def let_pass(node: Node, seconds: float) -> None:
    """As if so many seconds were over since the last renewal of the node."""
    names = ("renewed_at", "lease_expires_at", "steady_since")
    Node.objects.filter(pk=node.pk).update(**{name: F(name) - timedelta(seconds=seconds) for name in names})


@pytest.mark.parametrize("step", [Step.TAKE_STOCK, Step.EVICT])
def test_an_open_run_goes_on(step: Step) -> None:
    run = make_run(make_user("ada"), step=step, due_at=database.now() + timedelta(seconds=0.2))
    set_back()
    OpenRuns(VALUES).advance()
    run.refresh_from_db()
    assert run.outcome == Outcome.NOTHING_TO_DO
    assert run.opened_at <= database.now()


def test_a_run_that_had_waited_for_longer_than_the_clock_was_set_back_goes_on_too() -> None:
    run = make_run(make_user("ada"), ago=7200, step=Step.CONFIRM, due_at=database.now())
    set_back()
    OpenRuns(VALUES).advance()
    run.refresh_from_db()
    assert run.outcome == Outcome.NOTHING_TO_DO


def test_a_run_that_waits_for_a_roll_call_waits_no_longer_than_from_now_on() -> None:
    ada, node = make_user("ada"), make_node()
    make_gate(ada)
    answering, deaf = make_records(2, ada, node)
    run, _ = runs.request(ada, RunKind.CLEANUP, actor=Actor.command(), reason="stuck")
    runs.advance(run.pk)
    set_back()
    run = runs.advance(run.pk)
    assert run.step == Step.EVICT, "it waits for the answers"
    assert run.roll_call_at is not None
    assert seconds_ahead(run.roll_call_at) <= 0
    answer_roll_call(answering)
    long_ago = run.roll_call_at - timedelta(seconds=2 * VALUES.lease_seconds + 1)
    RecoveryRun.objects.update(roll_call_at=long_ago, due_at=database.now())
    run = runs.advance(run.pk)
    assert {found["id"]: found["action"] for found in run.findings} == {
        str(answering.pk): "spared",
        str(deaf.pk): "waiting",
    }


def test_an_answer_that_came_between_the_set_back_and_the_next_step_counts() -> None:
    ada, node = make_user("ada"), make_node()
    make_gate(ada)
    record = make_records(1, ada, node)[0]
    run, _ = runs.request(ada, RunKind.CLEANUP, actor=Actor.command(), reason="stuck")
    runs.advance(run.pk)
    set_back()
    answer_roll_call(record)
    assert runs.advance(run.pk).outcome == Outcome.NOTHING_TO_DO


def test_the_sweep_waits_no_longer_after_a_run_that_failed() -> None:
    ada = make_user("ada")
    make_gate(ada, soft_limit=1)
    make_run(ada, actor_kind=ActorKind.SYSTEM, finished_at=database.now(), outcome=Outcome.FAILED)
    make_records(2, ada, make_node())
    set_back()
    assert open_runs(VALUES) == 1


def test_runs_that_can_not_evict_do_not_follow_each_other_until_the_clock_is_there_again() -> None:
    ada = make_user("ada")
    make_gate(ada, soft_limit=1)
    make_records(2, ada, make_node())
    set_back()
    run = make_run(ada, step=Step.REPORT, roll_call_at=database.now())
    runs.advance(run.pk)
    assert not RecoveryRun.objects.open().exists()


def test_a_record_that_was_set_aside_is_tried_again() -> None:
    make_node("witness")
    record = make_records(1, make_user("ada"), lost_node())[0]
    ManagerRecord.objects.update(sweep_error="bad row", sweep_retry_at=database.now() + timedelta(seconds=30))
    set_back()
    assert sweep(VALUES, "witness").freed == {"node_lost": 1}
    record.refresh_from_db()
    assert record.closed_at is not None


def test_the_lease_of_a_dead_node_ends_a_lease_from_now_and_no_later() -> None:
    dead = make_node("dead")
    make_records(2, make_user("ada"), dead)
    set_back()
    passes, witness = Sweep(VALUES, "witness"), make_node("witness")
    passes.go_on()
    dead.refresh_from_db()
    assert dead.fenced_at is None
    assert seconds_ahead(dead.lease_expires_at) <= VALUES.lease_seconds
    let_pass(dead, VALUES.lease_seconds + 0.1)
    Node.objects.filter(pk=witness.pk).update(renewed_at=database.now())
    assert passes.go_on().freed == {"node_lost": 2}


def test_a_node_is_steady_a_lease_after_the_clock_was_set_back() -> None:
    node = make_node("web-1", steady_since=database.now())
    set_back()
    lease.renew(node.pk, VALUES)
    node.refresh_from_db()
    assert seconds_ahead(node.steady_since) <= 0
    assert not lease.witnesses(database.now(), VALUES).exists(), "nobody knows how late that renewal was"
    Node.objects.update(steady_since=node.steady_since - timedelta(seconds=VALUES.lease_seconds))
    assert lease.witnesses(database.now(), VALUES).exists()


def test_a_dead_node_whose_renewal_lies_ahead_is_no_witness() -> None:
    make_node("dead", steady_since=database.now() - 2 * HOUR)
    set_back()
    make_node("lapsed", silent=60)
    assert not lease.witnesses(database.now(), VALUES).exists()
    assert lease.fence(VALUES) == []
