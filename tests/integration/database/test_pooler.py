"""Behind a pooler that drops or refuses the start-up options, the engine's threads have their timeouts all the same."""

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from connections import database
from connections.database.requirements import check_timeouts, why_no_connection
from tests.support.databases import Database
from tests.support.default_database import default_database
from tests.support.own_threads import in_thread, scalar
from tests.support.pooler import pooler

pytestmark = pytest.mark.django_db
OPTIONS = "-c lock_timeout=4000 -c statement_timeout=15000 -c idle_in_transaction_session_timeout=5000"


@contextlib.contextmanager
def row_locked(url: str) -> Iterator[None]:
    with psycopg.connect(url) as stranger:
        stranger.execute("SELECT id FROM auth_user WHERE username = 'u1' FOR UPDATE")
        yield
        stranger.rollback()


@pytest.mark.parametrize("refuses", [False, True], ids=["dropped", "refused"])
@pytest.mark.parametrize("within", [database.atomic, contextlib.nullcontext], ids=["transaction", "autocommit"])
def test_a_wait_for_a_lock_is_bounded(refuses: bool, within: object, postgres_database: Database) -> None:
    def body() -> None:
        with database.own_connection(2.0, lock_seconds=0.2):
            assert scalar("SHOW idle_in_transaction_session_timeout") != "0"
            began = time.monotonic()
            with pytest.raises(database.Busy), within():  # type: ignore[operator]
                scalar("UPDATE auth_user SET first_name = 'x' WHERE username = 'u1' RETURNING id")
            assert time.monotonic() - began < 1.5
            assert scalar("UPDATE auth_user SET first_name = 'x' WHERE username = 'u2' RETURNING 7") == 7
            backend = scalar("SELECT pg_backend_pid()")
            with database.atomic():
                assert scalar("SHOW lock_timeout") == "200ms"
                assert scalar("SELECT pg_backend_pid()") == backend

    with (
        pooler(postgres_database.url, refuses=refuses) as url,
        row_locked(postgres_database.url),
        default_database(url),
    ):
        in_thread(body)


def messages_of_a_transaction(trace: Path) -> list[str]:
    """The statements that a transaction of two statements sends to the server, as libpq wrote them down."""
    with database.own_connection(2.0):
        scalar("SELECT 1")
        driver = connection.connection
        with trace.open("w") as file:
            driver.pgconn.trace(file.fileno())
            with database.atomic():
                scalar("SELECT 2")
                scalar("SELECT 3")
            driver.pgconn.untrace()
    return re.findall(r'(?:Query|Parse)[^"]*"(?:"[^"]*")?\s*([^"\s;]+)', trace.read_text())


def test_the_timeouts_are_set_once_in_a_transaction_and_only_behind_such_a_pooler(
    postgres_database: Database, tmp_path: Path
) -> None:
    def body() -> None:
        statements = messages_of_a_transaction(tmp_path / "trace")
        assert [word.upper() for word in statements] == expected

    expected = ["BEGIN", "SELECT", "SELECT", "COMMIT"]
    with default_database(postgres_database.url):
        in_thread(body)
    expected.insert(1, "SELECT")
    with pooler(postgres_database.url, refuses=False) as url, default_database(url):
        in_thread(body)


@pytest.mark.parametrize(("options", "words"), [(OPTIONS, "A pooler drops"), ("", "has no lock_timeout")])
def test_the_check_warns_of_pages_without_timeouts(options: str, words: str, postgres_database: Database) -> None:
    with (
        pooler(postgres_database.url, refuses=False) as url,
        default_database(url, OPTIONS={"options": options}),
    ):
        (warning,) = check_timeouts(databases=["default"])
        assert words in warning.msg
        assert warning.hint
        assert check_timeouts(databases=None) == []


def test_the_check_is_silent_where_the_timeouts_are_in_force(postgres_database: Database) -> None:
    with default_database(postgres_database.url, OPTIONS={"options": OPTIONS}):
        assert check_timeouts(databases=["default"]) == []


def test_a_pool_that_gets_no_connection_says_why(postgres_database: Database) -> None:
    options = {"options": OPTIONS, "pool": {"min_size": 1, "timeout": 1}}
    with pooler(postgres_database.url, refuses=True) as url, default_database(url, OPTIONS=options):
        with pytest.raises(database.AWAY[0]) as raised:
            scalar("SELECT 1")
        assert "ignore_startup_parameters" in why_no_connection(raised.value)
        connection.close_pool()  # type: ignore[attr-defined]
