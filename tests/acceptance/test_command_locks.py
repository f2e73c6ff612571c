"""A command that finds a lock of another transaction says so, and what became of what it was to do."""

import threading
import time
from typing import Any

import psycopg

from tests.support.databases import Database
from tests.support.locks import held
from tests.support.processes import manage
from tests.support.scenes import PAUSED

SETTINGS = PAUSED.settings()
WAITED = 4.0  # seconds that a statement of a command waits for a lock


def end_after_run_began(database: Database, stranger: "psycopg.Connection[Any]") -> None:
    """End the stranger's transaction once a run has met its lock for longer than a statement waits for one."""
    until = time.monotonic() + 30
    while time.monotonic() < until and not database.query("SELECT 1 FROM connections_recoveryrun"):
        time.sleep(0.05)
    time.sleep(WAITED + 0.5)
    stranger.rollback()


def test_a_command_that_waited_for_a_lock_in_vain_did_nothing_and_says_so(postgres_database: Database) -> None:
    user = postgres_database.user("u1")
    assert manage("set_limit", user.name, "5", db=postgres_database, **SETTINGS).code == 0
    with held(postgres_database, "SELECT 1 FROM connections_usergate FOR UPDATE"):
        result = manage("set_limit", user.name, "7", db=postgres_database, **SETTINGS)
    assert result.code == 1
    assert "Another transaction holds a lock that this needs. Nothing was done." in result.err
    assert "does not answer" not in result.err
    assert postgres_database.query("SELECT soft_limit FROM connections_usergate") == [(5,)]


def test_a_recovery_whose_gate_is_locked_for_a_while_waits_for_it(postgres_database: Database) -> None:
    user = postgres_database.user("u1")
    assert manage("set_limit", user.name, "5", db=postgres_database, **SETTINGS).code == 0
    with held(postgres_database, "SELECT 1 FROM connections_usergate FOR UPDATE") as stranger:
        end = threading.Thread(target=end_after_run_began, args=(postgres_database, stranger))
        end.start()
        result = manage("recover_user", user.name, db=postgres_database, **SETTINGS)
        end.join()
    assert (result.code, "nothing_to_do" in result.out) == (0, True), result.err


def test_a_recovery_whose_gate_stays_locked_says_where_its_run_goes_on(postgres_database: Database) -> None:
    user = postgres_database.user("u1")
    assert manage("set_limit", user.name, "5", db=postgres_database, **SETTINGS).code == 0
    with held(postgres_database, "SELECT 1 FROM connections_usergate FOR UPDATE"):
        result = manage("recover_user", user.name, db=postgres_database, **SETTINGS)
    [(run, finished)] = postgres_database.query("SELECT id, finished_at FROM connections_recoveryrun")
    assert (result.code, finished) == (1, None)
    assert (
        f"It has not finished: step take_stock waits. It goes on by itself: see run {run} in the console." in result.err
    )
