"""The connection pool that requests and handshakes share, after an outage of PostgreSQL."""

import time
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

from console.settings import database
from tests.support.databases import Database

OUTAGE = 4.0  # seconds; after so long, a pool with the default settings would try again only after 3 more
BACK = 2.0  # the most seconds after the database is back


def test_the_pool_connects_soon_after_its_database_is_back(postgres_database: Database) -> None:
    options: dict[str, Any] = database(postgres_database.url)["OPTIONS"]["pool"]
    until = time.monotonic() + OUTAGE

    class Away(psycopg.Connection[Any]):
        @classmethod
        def connect(cls, *arguments: Any, **keywords: Any) -> Any:
            if time.monotonic() < until:
                raise psycopg.OperationalError("connection refused")
            return super().connect(*arguments, **keywords)

    with ConnectionPool(postgres_database.url, connection_class=Away, open=True, **options) as pool:
        while time.monotonic() < until + BACK:
            try:
                with pool.connection(timeout=0.2) as connection:
                    connection.execute("SELECT 1")
                break
            except psycopg.OperationalError:
                continue  # no caller gets a connection for so long
        assert until <= time.monotonic() < until + BACK
