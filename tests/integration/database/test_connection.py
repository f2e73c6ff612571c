"""The database connections of the engine's threads and their timeouts, on a real PostgreSQL."""

import os
import signal
import threading
import time
from typing import Any

import dj_database_url
import pytest
from django.db import InterfaceError, OperationalError, connection, connections, transaction

from connections import database
from connections.database.postgres import DEADLINE_BEATS, OwnPostgres
from tests.support.databases import Database
from tests.support.own_threads import in_thread, scalar

pytestmark = pytest.mark.django_db


@pytest.fixture
def on_postgres(postgres_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect the default alias to PostgreSQL."""
    parsed: dict[str, Any] = {**dj_database_url.parse(postgres_database.url)}
    parsed["OPTIONS"] = parsed.get("OPTIONS", {}) | {"pool": True}
    monkeypatch.setitem(connections.settings, "default", connections.settings["default"] | parsed)


@pytest.mark.usefixtures("on_postgres")
def test_a_threads_connection_is_its_own_outside_the_pool_and_has_timeouts() -> None:
    def body() -> None:
        with database.own_connection(2.0, lock_seconds=0.25):
            assert scalar("SHOW lock_timeout") == "250ms"
            assert scalar("SHOW statement_timeout") == "2500ms"
            assert scalar("SHOW idle_in_transaction_session_timeout") == "5s"
            assert "pool" not in connection.settings_dict["OPTIONS"]
            inside = scalar("SELECT pg_backend_pid()")
            assert scalar("SELECT pg_backend_pid()") == inside, "it is kept"

    in_thread(body)


@pytest.mark.usefixtures("on_postgres")
def test_a_frozen_server_ends_the_round_and_the_next_round_connects_again() -> None:
    def body() -> None:
        with database.own_connection(1.0):
            backend = int(str(scalar("SELECT pg_backend_pid()")))
            os.kill(backend, signal.SIGSTOP)
            try:
                began = time.monotonic()
                with pytest.raises((OperationalError, InterfaceError)):
                    scalar("SELECT 1")
                assert time.monotonic() - began < 1.0 * DEADLINE_BEATS + 1
                database.throw_away()
                assert scalar("SELECT 2") == 2
            finally:
                os.kill(backend, signal.SIGCONT)

    in_thread(body)


@pytest.mark.usefixtures("on_postgres")
def test_a_lock_of_another_program_does_not_count_as_the_database_being_away() -> None:
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with database.own_connection(5.0), transaction.atomic():
            scalar("SELECT id FROM auth_user WHERE username = 'u1' FOR UPDATE")
            locked.set()
            done.wait(10)

    def body() -> None:
        with database.own_connection(5.0, lock_seconds=0.1):
            with pytest.raises(database.Busy), transaction.atomic():
                scalar("SELECT id FROM auth_user WHERE username = 'u1' FOR UPDATE")
            assert scalar("SELECT count(*) FROM auth_user WHERE username = 'u2'") == 1, "the connection still works"

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert locked.wait(10)
        in_thread(body)
    finally:
        done.set()
        holder.join(10)


@pytest.mark.usefixtures("on_postgres")
def test_a_thread_that_waits_for_something_else_keeps_its_connection() -> None:
    def body() -> None:
        with database.own_connection(1.0):
            backend = scalar("SELECT pg_backend_pid()")
            database.idle()
            time.sleep(1.0 * DEADLINE_BEATS + 0.5)
            assert scalar("SELECT pg_backend_pid()") == backend

    in_thread(body)


@pytest.mark.usefixtures("on_postgres")
def test_a_transaction_that_postgresql_ended_as_idle_counts_as_the_database_being_away() -> None:
    def body() -> None:
        answered: list[object] = []
        with database.own_connection(2.0):
            with database.round_of("test"), transaction.atomic():
                scalar("SELECT set_config('idle_in_transaction_session_timeout', '50', false)")
                time.sleep(0.3)
                answered.append(scalar("SELECT 1"))
            assert answered == [], "the server should have ended this connection"
            assert scalar("SELECT 1") == 1

    in_thread(body)


@pytest.mark.usefixtures("on_postgres")
def test_the_end_of_a_transaction_that_was_cut_waits_for_no_new_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    connects: list[object] = []
    connect = OwnPostgres.get_new_connection

    def get_new_connection(self: OwnPostgres, conn_params: dict[str, Any]) -> Any:
        connects.append(conn_params)
        return connect(self, conn_params)

    monkeypatch.setattr(OwnPostgres, "get_new_connection", get_new_connection)

    def body() -> None:
        with database.own_connection(1.0):
            with pytest.raises((OperationalError, InterfaceError)), transaction.atomic():
                scalar("SELECT pg_terminate_backend(pg_backend_pid())")
            assert len(connects) == 1
            assert scalar("SELECT 1") == 1
            assert len(connects) == 2

    in_thread(body)
