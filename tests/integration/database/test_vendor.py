"""A backend of another name gets the same connections: its vendor decides."""

from pathlib import Path

import pytest
from django.db import connection

from connections import database
from tests.support.databases import Database
from tests.support.default_database import default_database
from tests.support.own_threads import in_thread, scalar

pytestmark = pytest.mark.django_db


def test_a_backend_that_extends_djangos_for_postgresql_has_the_timeouts(postgres_database: Database) -> None:
    def body() -> None:
        with database.own_connection(2.0, lock_seconds=0.25):
            assert scalar("SHOW lock_timeout") == "250ms"
            assert scalar("SHOW statement_timeout") == "2500ms"
            assert scalar("SHOW idle_in_transaction_session_timeout") == "5s"

    with default_database(postgres_database.url, ENGINE="tests.support.engine_postgres"):
        in_thread(body)


def test_a_backend_that_extends_djangos_for_sqlite_begins_transactions_with_the_lock(tmp_path: Path) -> None:
    begun: list[str] = []

    def body() -> None:
        with database.own_connection(2.0):
            connection.ensure_connection()
            connection.connection.set_trace_callback(begun.append)
            with database.atomic():
                scalar("SELECT 1")

    with default_database(f"sqlite:///{tmp_path / 'other.sqlite3'}", ENGINE="tests.support.engine_sqlite"):
        in_thread(body)
    assert begun[0] == "BEGIN IMMEDIATE"
