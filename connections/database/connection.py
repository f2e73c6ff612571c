"""The calling thread's connection to the database that holds our tables, whichever thread that is: transactions, the
clock, and what becomes of a connection that leads to a server which has become read-only.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from connections.database.errors import READ_ONLY, sqlstate_of
from connections.models.routing import alias

logger = logging.getLogger(__name__)


def current() -> BaseDatabaseWrapper:
    """The calling thread's connection to the database that holds our tables."""
    return connections[alias()]


@contextmanager
def atomic() -> Iterator[None]:
    """Django's `transaction.atomic`, on the database that holds our tables, at READ COMMITTED.

    Decisions are made under locks, on what the other transactions have committed by then. At the project's REPEATABLE
    READ they would be made on what was there before the wait for the lock. Only the outermost block can set the level.
    """
    connection = current()
    with _read_committed(connection), transaction.atomic(using=connection.alias):
        yield


@contextmanager
def _read_committed(connection: BaseDatabaseWrapper) -> Iterator[None]:
    if connection.vendor != "postgresql" or connection.in_atomic_block:
        yield
        return
    from psycopg import IsolationLevel
    from psycopg.pq import TransactionStatus

    connection.ensure_connection()
    driver: Any = connection.connection
    before = driver.isolation_level
    if before is IsolationLevel.READ_COMMITTED or driver.info.transaction_status != TransactionStatus.IDLE:
        yield
        return
    driver.isolation_level = IsolationLevel.READ_COMMITTED  # part of the BEGIN: no round trip
    try:
        yield
    finally:
        if not driver.closed and driver.info.transaction_status == TransactionStatus.IDLE:
            driver.isolation_level = before


def on_commit(function: Callable[[], object]) -> None:
    """Django's `transaction.on_commit`, on the database that holds our tables."""
    transaction.on_commit(function, using=alias())


def now() -> datetime:
    """The database's clock, in UTC. On SQLite that is the machine's, since all its users share one machine."""
    if is_sqlite():
        return timezone.now()
    with current().cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (value,) = cursor.fetchone()
    return value.astimezone(UTC)  # type: ignore[no-any-return]  # psycopg's is aware, in TIME_ZONE of DATABASES


def is_sqlite() -> bool:
    return current().vendor == "sqlite"


def use_wal() -> None:
    """Set SQLite's file to WAL mode, so that reads go on during a write. Does nothing on PostgreSQL."""
    if is_sqlite():
        with current().cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")


def leave_standby(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Receiver of Django's `connection_created`: have this connection closed once it turns out to be read-only.

    After a failover, a connection of a page, or a pool of them, may lead to the old primary. Django keeps it, since it
    answers.
    """
    if connection.vendor != "postgresql" or connection.alias != alias():
        return
    if _close_if_read_only not in connection.execute_wrappers:
        connection.execute_wrappers.append(_close_if_read_only)


def _close_if_read_only(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    try:
        return execute(sql, params, many, context)
    except Error as error:
        if sqlstate_of(error) == READ_ONLY:
            logger.warning("database_read_only", extra={"error": str(error)})
            drop(context["connection"])
        raise


def drop(connection: BaseDatabaseWrapper) -> None:
    """Close what the driver has open, and what waits in its pool. Within a transaction, Django notes the loss."""
    driver = connection.connection
    if driver is not None:
        with suppress(Exception):  # it is given up in any case, whatever its driver says to that
            driver.close()
    pool = getattr(connection, "pool", None)
    if pool is not None and hasattr(pool, "drain"):
        pool.drain()
