"""Errors of a real PostgreSQL and of SQLite in words that a probe may publish."""

import sqlite3
from pathlib import Path

import psycopg
import pytest
from django.db import InternalError, OperationalError, connections
from pytest_django import DjangoDbBlocker

from connections import database
from connections.database.trouble import in_words
from tests.support.databases import Database
from tests.support.default_database import default_database


def test_what_postgresql_refuses(postgres_database: Database, django_db_blocker: DjangoDbBlocker) -> None:
    with django_db_blocker.unblock(), default_database(postgres_database.url), database.own_connection(0.2):
        with connections["default"].cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = on")
        with pytest.raises((InternalError, OperationalError)) as refused, connections["default"].cursor() as cursor:
            cursor.execute("UPDATE connections_node SET name = 'x'")
        assert in_words(refused.value) == "the database is read-only"
        database.throw_away()
        with psycopg.connect(postgres_database.url) as stranger:
            stranger.execute("LOCK TABLE connections_node")
            with pytest.raises(database.Busy) as locked, connections["default"].cursor() as cursor:
                cursor.execute("UPDATE connections_node SET name = 'x'")
        assert in_words(locked.value) == "another transaction holds a lock that it needs"


def test_a_connection_that_fails_is_described_without_its_address(
    postgres_database: Database, django_db_blocker: DjangoDbBlocker
) -> None:
    nowhere = "postgres://somebody:secret@127.0.0.1:1/nowhere"
    with django_db_blocker.unblock(), default_database(nowhere), database.own_connection(0.2):
        with pytest.raises(OperationalError) as failed:
            database.now()
        assert "127.0.0.1" in str(failed.value)
        assert in_words(failed.value) == "the database does not answer"


def test_a_locked_sqlite_file(tmp_path: Path, django_db_blocker: DjangoDbBlocker) -> None:
    path = tmp_path / "db.sqlite3"
    with sqlite3.connect(path, isolation_level=None) as stranger:
        stranger.execute("CREATE TABLE thing (id)")
        stranger.execute("BEGIN IMMEDIATE")
        with django_db_blocker.unblock(), default_database(f"sqlite:///{path}"), database.own_connection(0.2):
            with pytest.raises(OperationalError) as locked, database.atomic():
                pass
            assert in_words(locked.value) == "another program holds the database's write lock"


def test_an_error_that_is_not_the_databases_is_named() -> None:
    assert in_words(ValueError("too many values")) == "ValueError"
