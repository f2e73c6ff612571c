"""A project's REPEATABLE READ or SERIALIZABLE: our transactions are at READ COMMITTED all the same."""

from collections.abc import Iterator

import pytest
from django.db import ProgrammingError, connection, transaction
from psycopg import IsolationLevel

from connections import database
from tests.support.databases import Database
from tests.support.default_database import default_database
from tests.support.own_threads import in_thread, scalar

pytestmark = pytest.mark.django_db

SHOW = "SHOW transaction_isolation"


@pytest.fixture(params=["OPTIONS", "the server"])
def repeatable_read(request: pytest.FixtureRequest, postgres_database: Database) -> Iterator[None]:
    """The default alias on a PostgreSQL whose transactions are at REPEATABLE READ unless they say otherwise."""
    if request.param == "OPTIONS":
        with default_database(postgres_database.url, OPTIONS={"isolation_level": IsolationLevel.REPEATABLE_READ.value}):
            yield
        return
    name = postgres_database.query("SELECT current_database()")[0][0]
    postgres_database.query(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    with default_database(postgres_database.url):
        yield


@pytest.mark.usefixtures("repeatable_read")
def test_the_engines_threads_read_what_is_committed() -> None:
    def body() -> None:
        with database.own_connection(2.0):
            assert scalar(SHOW) == "read committed"
            with database.atomic():
                assert scalar(SHOW) == "read committed"

    in_thread(body)


@pytest.mark.usefixtures("repeatable_read")
def test_so_does_our_transaction_on_a_connection_of_the_project_and_its_own_are_as_before() -> None:
    def body() -> None:
        for _ in range(2):
            with transaction.atomic():
                assert scalar(SHOW) == "repeatable read"
                with database.atomic():
                    assert scalar(SHOW) == "repeatable read", "an inner block can't change it"
            with database.atomic(), database.atomic():
                assert scalar(SHOW) == "read committed"
            with pytest.raises(ProgrammingError), database.atomic():
                scalar("SELECT nothing")

    in_thread(body)


@pytest.mark.usefixtures("repeatable_read")
def test_a_count_under_a_lock_sees_what_was_committed_during_the_wait(postgres_database: Database) -> None:
    with database.atomic():
        assert scalar("SELECT count(*) FROM auth_user WHERE username = 'late'") == 0
        postgres_database.query("UPDATE auth_user SET username = 'late' WHERE username = 'u1'")
        assert scalar("SELECT count(*) FROM auth_user WHERE username = 'late'") == 1
    connection.close()
