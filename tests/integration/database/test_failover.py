"""A connection of a page that leads to a server which takes no writes any more, as after a failover."""

import contextlib

import psycopg
import pytest
from django.db import InternalError, OperationalError, connection, transaction

from connections import database
from tests.support.databases import Database
from tests.support.default_database import default_database
from tests.support.own_threads import in_thread, scalar

pytestmark = pytest.mark.django_db

UPDATE = "UPDATE auth_user SET first_name = 'x' WHERE username = 'u1' RETURNING 7"
DEMOTE = "SELECT set_config('default_transaction_read_only', 'on', false)"
POOL = {"min_size": 3, "max_size": 3, "timeout": 5}


@pytest.mark.parametrize("within", [transaction.atomic, contextlib.nullcontext], ids=["transaction", "autocommit"])
@pytest.mark.parametrize("pool", [POOL, None], ids=["pool", "persistent"])
def test_it_is_closed_and_the_next_request_has_another(
    pool: object, within: object, postgres_database: Database
) -> None:
    def body() -> None:
        drivers: list[psycopg.Connection] = []
        scalar(DEMOTE)
        if pool is not None:  # all connections that wait in the pool lead there as well
            opened = connection.pool  # type: ignore[attr-defined]
            drivers = [opened.getconn() for _ in range(2)]
            for driver in drivers:
                driver.execute(DEMOTE)
                opened.putconn(driver)
        with pytest.raises(InternalError) as raised, within():  # type: ignore[operator]
            scalar(UPDATE)
        assert database.is_away(raised.value)
        for _ in range(3):  # as Django does between two requests
            connection.close_if_unusable_or_obsolete()
            assert scalar(UPDATE) == 7
            connection.close()
        if pool is not None:
            connection.close_pool()  # type: ignore[attr-defined]

    options = {} if pool is None else {"pool": pool}
    with default_database(postgres_database.url, OPTIONS=options, CONN_MAX_AGE=0 if pool else None):
        in_thread(body)


def test_an_engines_thread_connects_to_no_standby(postgres_database: Database) -> None:
    name = postgres_database.query("SELECT current_database()")[0][0]
    postgres_database.query(f"ALTER DATABASE {name} SET default_transaction_read_only = on")

    def body() -> None:
        with database.own_connection(2.0):
            with pytest.raises(OperationalError, match="read-only"):
                scalar("SELECT 1")
            with psycopg.connect(postgres_database.url, autocommit=True) as other:
                other.execute("SET default_transaction_read_only = off")
                other.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
            assert scalar("SELECT 1") == 1

    with default_database(postgres_database.url):
        in_thread(body)
