"""Runs, sweep and actions beside other transactions that hold their rows, on a real PostgreSQL: nobody waits."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from pytest_django import DjangoDbBlocker

from connections import database
from connections.conf import Tunables
from connections.models import AuditEntry, ManagerRecord, RecoveryRun
from connections.policy.actor import Actor
from connections.policy.states import CloseReason, Outcome, RunKind, Step
from connections.recovery import actions, runs
from connections.recovery.open_runs import OpenRuns
from connections.recovery.sweep import sweep
from tests.support.databases import Database
from tests.support.default_database import default_database
from tests.support.rows import answer_roll_call, lost_node, make_gate, make_node, make_records, make_user

STAFF = Actor.command("support")
LOCK_SECONDS = 8.0  # for which a statement here would wait for a lock
AT_ONCE = LOCK_SECONDS / 2
VALUES = replace(Tunables(), beat_seconds=0.2, probe_seconds=0.2)


@pytest.fixture
def stranger(postgres_database: Database, django_db_blocker: DjangoDbBlocker) -> Iterator["psycopg.Connection[Any]"]:
    """A transaction of another program. The test's own connection waits for locks as an engine thread's does."""
    with (
        django_db_blocker.unblock(),
        default_database(postgres_database.url),
        database.own_connection(LOCK_SECONDS),
        psycopg.connect(postgres_database.url) as other,
    ):
        yield other


@contextmanager
def at_once() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < AT_ONCE, "it waited for a lock"


def hold(stranger: "psycopg.Connection[Any]", table: str, where: LiteralString, *values: Any) -> None:
    statement = sql.SQL("SELECT 1 FROM {} WHERE {} FOR UPDATE")
    stranger.execute(statement.format(sql.Identifier(f"connections_{table}"), sql.SQL(where)), values)


def request(user: Any) -> RecoveryRun:
    return runs.request(user, RunKind.CLEANUP, actor=STAFF, reason="stuck")[0]


def past_probe(run: RecoveryRun, beats: float) -> None:
    """Move the roll call so far into the past that its probe and so many beats are over."""
    began = database.now() - timedelta(seconds=VALUES.probe_seconds + beats * VALUES.beat_seconds)
    RecoveryRun.objects.filter(pk=run.pk).update(roll_call_at=began, due_at=database.now())


@pytest.mark.parametrize("locked", ["gate", "run", "records"])
def test_a_lock_on_one_users_rows_delays_no_other_run(stranger: "psycopg.Connection[Any]", locked: str) -> None:
    ada, bob, witness = make_user("ada"), make_user("bob"), make_node("witness")
    for user in (ada, bob):
        make_gate(user)
    make_records(2, ada, lost_node("web-2"))
    theirs = make_records(2, bob, lost_node("web-3"))
    first, second = request(ada), request(bob)
    match locked:
        case "gate":
            hold(stranger, "usergate", "user_id = %s", ada.pk)
        case "run":
            hold(stranger, "recoveryrun", "id = %s", first.pk)
        case "records":
            hold(stranger, "managerrecord", "user_id = %s", ada.pk)
    with at_once():
        OpenRuns(VALUES).advance()
        sweep(VALUES, "witness")
    second.refresh_from_db()
    first.refresh_from_db()
    assert (second.outcome, second.after) == (Outcome.RECOVERED, 0)
    assert (first.finished_at is None or locked == "records", first.error) == (True, "")
    assert ManagerRecord.objects.closed().count() == len(theirs) + (2 if locked != "records" else 0)
    stranger.rollback()
    first = runs.wait(first.pk, 10)
    assert first.outcome not in ("", Outcome.FAILED)
    sweep(VALUES, witness.name)
    assert not ManagerRecord.objects.held().exists()


def test_a_run_whose_last_step_finds_a_gate_locked_ends_later(stranger: "psycopg.Connection[Any]") -> None:
    ada = make_user("ada")
    make_gate(ada)
    run = request(ada)
    RecoveryRun.objects.filter(pk=run.pk).update(step=Step.REPORT)
    hold(stranger, "usergate", "user_id = %s", ada.pk)
    with at_once():
        assert runs.advance(run.pk, VALUES).finished_at is None
    stranger.rollback()
    assert runs.advance(run.pk, VALUES).outcome == Outcome.NOTHING_TO_DO


def test_advance_locks_a_run_in_the_mode_that_leaves_references_alone(stranger: "psycopg.Connection[Any]") -> None:
    run = request(make_user("ada"))
    stranger.execute("SELECT 1 FROM connections_recoveryrun FOR KEY SHARE")  # as an audit entry that refers to it
    assert runs.advance(run.pk, VALUES).outcome == Outcome.NOTHING_TO_DO


def test_an_eviction_counts_no_record_that_ends_meanwhile(stranger: "psycopg.Connection[Any]") -> None:
    """Three live at a limit of two, and one of them is being ended: no living one is evicted for it."""
    ada = make_user("ada")
    make_gate(ada, soft_limit=2)
    living = make_records(3, ada, make_node())
    run = request(ada)
    runs.advance(run.pk, VALUES)
    answer_roll_call(*living)
    stranger.execute(
        "UPDATE connections_managerrecord SET state = 'closed', closed_at = now(), close_reason = 'client_closed',"
        " actor_kind = 'system' WHERE id = %s",
        [living[-1].pk],
    )
    past_probe(run, 1.8)
    with at_once():
        run = runs.advance(run.pk, VALUES)
    assert (run.step, ManagerRecord.objects.closing().count()) == (Step.EVICT, 0)
    stranger.commit()
    past_probe(run, 1.9)
    run = runs.advance(run.pk, VALUES)
    assert run.finished_at is not None
    assert ManagerRecord.objects.counted().count() == 2
    assert not ManagerRecord.objects.filter(close_reason=CloseReason.EVICTED).exists()


def test_an_eviction_passes_over_a_record_that_stays_locked(stranger: "psycopg.Connection[Any]") -> None:
    ada, node = make_user("ada"), make_node()
    make_gate(ada, soft_limit=2)
    first, second, third = (make_records(1, ada, node, age=age)[0] for age in (300, 200, 100))
    run = request(ada)
    runs.advance(run.pk, VALUES)
    answer_roll_call(first, second, third)
    hold(stranger, "managerrecord", "id = %s", first.pk)
    past_probe(run, 2.1)
    with at_once():
        run = runs.advance(run.pk, VALUES)
    assert set(ManagerRecord.objects.closing()) == {second}
    assert ManagerRecord.objects.get(pk=second.pk).close_reason == CloseReason.EVICTED


def test_actions_wait_for_no_locked_record_and_say_so(stranger: "psycopg.Connection[Any]") -> None:
    ada = make_user("ada")
    locked, free = make_records(2, ada, make_node())
    hold(stranger, "managerrecord", "id = %s", locked.pk)
    with at_once():
        with pytest.raises(database.Busy, match="another transaction has locked the record"):
            actions.close_manager(locked, actor=STAFF, reason="asked")
        assert actions.close_own(ada, None, actor=Actor.user(ada)) == [free.pk]
    first, second = AuditEntry.objects.order_by("pk").values_list("outcome", flat=True)
    assert first.startswith("failed: another transaction has locked the record")
    assert second == "1 told to close, 1 locked by another transaction"
