"""Connections of the engine's own threads: one persistent connection each, with a bound on every wait, closed on error.

"Away" means on PostgreSQL that the server does not answer within a beat, and on SQLite that another process holds the
write lock for long. `connections.database.deadline` ends a connection whose server has frozen.
"""

import copy
import logging
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import DatabaseError, InterfaceError, InternalError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend
from django.utils import timezone

from connections import metrics
from connections.database.deadline import Deadline
from connections.models.routing import alias

logger = logging.getLogger(__name__)

AWAY = (OperationalError, InterfaceError)

# SQLSTATEs of one refused statement: lock_timeout, statement_timeout, deadlock, serialization failure.
BUSY_STATES = {"55P03", "57014", "40P01", "40001"}
IDLE_TOO_LONG = "25P03"  # idle_in_transaction_session_timeout: this process stalled within a transaction
STATEMENT_BEATS = 1.25  # a statement may wait a beat for a lock, and needs time for its work
DEADLINE_BEATS = 1.75  # a server that has not given up by itself by then counts as frozen
MIN_WAIT_SECONDS = 1.0  # for beats below it, which tests use on busy machines

_thread = threading.local()  # in an engine thread: the deadline of its connection


class Busy(DatabaseError):
    """The database works, but another transaction's lock made this one wait for too long. Try again."""


def is_busy(error: Exception) -> bool:
    """Whether the database answered and refused one statement, because of another's lock or a statement time-out."""
    return isinstance(error, Busy) or getattr(error.__cause__, "sqlstate", None) in BUSY_STATES


def current() -> BaseDatabaseWrapper:
    """The calling thread's connection to the database that holds our tables."""
    return connections[alias()]


def atomic() -> "transaction.Atomic":
    """Django's `transaction.atomic`, on the database that holds our tables."""
    return transaction.atomic(using=alias())


def on_commit(function: Callable[[], object]) -> None:
    """Django's `transaction.on_commit`, on the database that holds our tables."""
    transaction.on_commit(function, using=alias())


def now() -> datetime:
    """The database's clock. On SQLite that is the machine's, since all its users share one machine."""
    if is_sqlite():
        return timezone.now()
    with current().cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (value,) = cursor.fetchone()
    return value  # type: ignore[no-any-return]  # psycopg gives an aware datetime


def is_sqlite() -> bool:
    return current().vendor == "sqlite"


@contextmanager
def own_connection(beat_seconds: float, *, lock_seconds: float | None = None) -> Iterator[None]:
    """Give the calling thread a connection of its own under our alias, outside any pool, until the block ends.

    A statement waits at most `lock_seconds` for locks (None: a beat), runs a little longer at most, and then raises
    Busy. If the server is gone or frozen, it raises one of AWAY. The thread calls `idle` before it waits for anything
    else.
    """
    wait = max(beat_seconds, MIN_WAIT_SECONDS)
    name = alias()
    settings = copy.deepcopy(connections.settings[name])
    settings["CONN_MAX_AGE"] = None
    options = settings.setdefault("OPTIONS", {})
    options.pop("pool", None)
    if settings["ENGINE"].endswith("sqlite3"):
        # Django's default mode fails when a reading transaction begins to write.
        options |= {"timeout": beat_seconds, "transaction_mode": "IMMEDIATE"}
    elif settings["ENGINE"].endswith("postgresql"):
        options |= _postgres_options(options, wait, wait if lock_seconds is None else lock_seconds)
    before = connections[name]
    own = load_backend(settings["ENGINE"]).DatabaseWrapper(settings, name)
    connections[name] = own
    if own.vendor == "postgresql":
        _thread.deadline = Deadline(lambda: _socket_of(own), wait * DEADLINE_BEATS)
        own.execute_wrappers.append(_bounded(_thread.deadline))
    try:
        yield
    finally:
        throw_away()
        if own.vendor == "postgresql":
            _thread.deadline.close()
            _thread.deadline = None
        connections[name] = before


def idle() -> None:
    """Note that this thread runs no statement, so that its connection is not taken for frozen."""
    deadline: Deadline | None = getattr(_thread, "deadline", None)
    if deadline is not None:
        deadline.clear()


def throw_away() -> None:
    """Close this thread's connection; the next statement opens a new one."""
    idle()
    current().close()


def _postgres_options(options: dict[str, Any], wait: float, lock: float) -> dict[str, Any]:
    milliseconds = {
        "lock_timeout": lock * 1000,
        "statement_timeout": wait * STATEMENT_BEATS * 1000,
        "idle_in_transaction_session_timeout": wait * 2.5 * 1000,  # half a lease of the default five beats
    }
    timeouts = " ".join(f"-c {name}={round(value)}" for name, value in milliseconds.items())
    return {
        "connect_timeout": max(2, math.ceil(wait)),  # libpq raises smaller values to 2
        "tcp_user_timeout": round(wait * 1000),
        "options": f"{options.get('options', '')} {timeouts}".strip(),
    }


def _bounded(deadline: Deadline) -> Callable[..., Any]:
    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        deadline.move()
        try:
            return execute(sql, params, many, context)
        except OperationalError as error:
            if is_busy(error):
                raise Busy(str(error)) from error
            raise
        except InternalError as error:
            if getattr(error.__cause__, "sqlstate", None) == IDLE_TOO_LONG:
                raise OperationalError(str(error)) from error  # the server has closed this connection
            raise

    return wrapper


def _socket_of(own: Any) -> int | None:
    """The file descriptor of a PostgreSQL connection, while it is open."""
    return None if own.connection is None or own.connection.closed else own.connection.fileno()


@contextmanager
def round_of(name: str) -> Iterator[None]:
    """Guard one round of an engine thread. If the database is away, log it and end the round; the next one reconnects.

    Every other error is raised, after the connection was closed.
    """
    try:
        yield
    except AWAY as error:
        metrics.database_trouble.labels(name, "away").inc()
        logger.warning("database_unreachable", extra={"worker": name, "error": str(error)})
        throw_away()
    except BaseException:
        throw_away()
        raise
    finally:
        idle()


def use_wal() -> None:
    """Set SQLite's file to WAL mode, so that reads go on during a write. Does nothing on PostgreSQL."""
    if is_sqlite():
        with current().cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")
