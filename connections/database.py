"""How the engine's own threads use the database: one persistent connection each, short waits, thrown away on error.

Embedded, "the database is away" means that another process holds SQLite's write lock for long; PostgreSQL is away
when it does not answer within a beat.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError, connection
from django.utils import timezone

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

AWAY = (OperationalError, InterfaceError)


def now() -> datetime:
    """The database's clock: for SQLite, whose users share one machine, that is the machine's."""
    if connection.vendor == "sqlite":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (value,) = cursor.fetchone()
    return value  # type: ignore[no-any-return]  # psycopg gives an aware datetime


def is_sqlite() -> bool:
    return connection.vendor == "sqlite"


@contextmanager
def round_of(name: str, wait_seconds: float) -> Iterator[None]:
    """One round of an engine thread. A database that is away ends the round; the next one connects anew.

    Anything that is not the database being away is raised.
    """
    try:
        tune(wait_seconds)
        yield
    except AWAY as error:
        logger.warning("database_away", extra={"worker": name, "error": str(error)})
        connection.close()
    except BaseException:
        connection.close()
        raise


def tune(wait_seconds: float) -> None:
    """Bound how long this thread's connection waits for anybody else's lock, once for each new connection."""
    fresh = connection.connection is None
    connection.ensure_connection()
    if not fresh:
        return
    milliseconds = max(1, round(wait_seconds * 1000))
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"PRAGMA busy_timeout = {milliseconds}")
        elif connection.vendor == "postgresql":
            cursor.execute(f"SET lock_timeout = {milliseconds}")
            cursor.execute(f"SET statement_timeout = {milliseconds * 2}")


def use_wal() -> None:
    """WAL, set once on the file, so that readers go on while somebody writes. Nothing to do on PostgreSQL."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")


def in_batches(step: Callable[[], int], limit: int = 1000) -> int:
    """Call `step` until it reports 0, at most `limit` times. The total it reported."""
    total = 0
    for _ in range(limit):
        done = step()
        if not done:
            break
        total += done
    return total


__all__ = ["AWAY", "DEFAULT_DB_ALIAS", "in_batches", "is_sqlite", "now", "round_of", "tune", "use_wal"]
