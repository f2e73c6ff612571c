"""A thread that waits for the database is told from one that hangs: only the latter is a failure of the node."""

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from connections import database
from connections.database.worker import WorkerThread
from tests.support.databases import Database
from tests.support.default_database import default_database

pytestmark = pytest.mark.django_db


def asks() -> None:
    database.now()


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_a_connection_that_takes_long_is_a_wait(postgres_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """No time-out of libpq bounds the wait for a name server that is away, and each of several servers has its own."""
    connects, answered = threading.Event(), threading.Event()

    def no_name_server(*_: Any, **__: Any) -> None:
        connects.set()
        answered.wait(10)
        raise psycopg.OperationalError("could not translate host name")

    with default_database(postgres_database.url), monkeypatch.context() as patch:
        patch.setattr("psycopg.connect", no_name_server)
        rounds = WorkerThread("test", asks, lambda: 5.0, beat_seconds=1.0)
        assert not database.waits(threading.main_thread())
        rounds.start()
        assert connects.wait(10)
        assert rounds.waits
        answered.set()
        assert until(lambda: not rounds.waits)
        assert rounds.stop(5)


def test_a_slow_statement_is_a_wait_and_what_follows_is_none(postgres_database: Database) -> None:
    hangs, freed = threading.Event(), threading.Event()

    def body() -> None:
        with database.current().cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.5)")
        hangs.set()
        freed.wait(10)

    with default_database(postgres_database.url):
        rounds = WorkerThread("test", body, lambda: 5.0, beat_seconds=1.0)
        rounds.start()
        assert until(lambda: rounds.waits)
        assert hangs.wait(10)
        assert not rounds.waits
        freed.set()
        assert rounds.stop(5)
