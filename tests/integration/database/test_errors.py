"""What errors of a real PostgreSQL mean to the engine's threads."""

import contextlib
from collections.abc import Callable

import pytest
from django.db import DatabaseError, IntegrityError

from connections import database
from tests.support.databases import Database
from tests.support.default_database import default_database
from tests.support.own_threads import in_thread, scalar

pytestmark = pytest.mark.django_db

RAISES = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'not this row' USING ERRCODE = '{}'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON auth_user FOR EACH ROW EXECUTE FUNCTION refuse();
"""
UPDATE = "UPDATE auth_user SET first_name = 'x' WHERE username = 'u1' RETURNING id"
WITHIN = pytest.mark.parametrize("within", [database.atomic, contextlib.nullcontext], ids=["transaction", "autocommit"])
Within = Callable[[], contextlib.AbstractContextManager[None]]


def error_of(statement: str, within: Within, *, prepared: str = "SELECT 1") -> tuple[Exception, bool]:
    """The error of a statement, and whether the connection goes on after it."""
    with database.own_connection(2.0):
        scalar(prepared)
        backend = scalar("SELECT pg_backend_pid()")
        try:
            with within():
                scalar(statement)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            with contextlib.suppress(DatabaseError):
                return error, scalar("SELECT pg_backend_pid()") == backend
            return error, False
    raise AssertionError("the statement did not fail")


@WITHIN
def test_a_server_that_became_read_only_is_away(within: Within, postgres_database: Database) -> None:
    def body() -> None:
        read_only = "SELECT set_config('default_transaction_read_only', 'on', false)"
        error, _ = error_of(UPDATE, within, prepared=read_only)
        assert isinstance(error, database.AWAY)

    with default_database(postgres_database.url):
        in_thread(body)


@WITHIN
@pytest.mark.parametrize("state", ["53100", "57P01", "XX000", "08006", "25006"])
def test_a_server_that_can_not_go_on_is_away(state: str, within: Within, postgres_database: Database) -> None:
    def body() -> None:
        error, _ = error_of(UPDATE, within)
        assert isinstance(error, database.AWAY)

    postgres_database.query(RAISES.format(state))
    with default_database(postgres_database.url):
        in_thread(body)


@WITHIN
@pytest.mark.parametrize("state", ["P0001", "22003", "23514", "38000", "54000", "42883", "27000"])
def test_a_row_that_can_not_be_written_is_not(state: str, within: Within, postgres_database: Database) -> None:
    def body() -> None:
        error, goes_on = error_of(UPDATE, within)
        assert isinstance(error, DatabaseError)
        assert not isinstance(error, (*database.AWAY, database.Busy))
        assert isinstance(error, IntegrityError) == state.startswith("23")
        assert goes_on

    postgres_database.query(RAISES.format(state))
    with default_database(postgres_database.url):
        in_thread(body)


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03", "57014"])
def test_another_transactions_lock_is_busy(state: str, postgres_database: Database) -> None:
    def body() -> None:
        error, goes_on = error_of(UPDATE, database.atomic)
        assert isinstance(error, database.Busy)
        assert goes_on

    postgres_database.query(RAISES.format(state))
    with default_database(postgres_database.url):
        in_thread(body)


def test_an_error_at_the_commit_is_told_apart_too(postgres_database: Database) -> None:
    def body() -> None:
        error, _ = error_of(UPDATE, database.atomic)
        assert isinstance(error, database.Busy)

    at_commit = RAISES.format("40001").replace("CREATE TRIGGER refuse BEFORE", "CREATE CONSTRAINT TRIGGER refuse AFTER")
    postgres_database.query(at_commit.replace("FOR EACH ROW", "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"))
    with default_database(postgres_database.url):
        in_thread(body)
