"""Connections of the engine's own threads: one persistent connection each, with a bound on every wait, closed on error.

"Away" means on PostgreSQL that the server does not answer within a beat, or takes no writes, and on SQLite that another
process holds the write lock for long. `connections.database.deadline` ends a connection whose server has frozen.
"""

import copy
import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

from connections import metrics
from connections.database.errors import AWAY, translated
from connections.database.postgres import OwnPostgres, own_options
from connections.database.waiting import waiting
from connections.models.routing import alias, sessions_alias

logger = logging.getLogger(__name__)

MIN_WAIT_SECONDS = 1.0  # for beats below it, which tests use on busy machines

_thread = threading.local()  # in an engine thread: `own`, its connections


@contextmanager
def own_connection(beat_seconds: float, *, lock_seconds: float | None = None) -> Iterator[None]:
    """Give the calling thread a connection of its own under our alias, outside any pool, until the block ends; and one
    to the database of the sessions, if that is another.

    A statement waits at most `lock_seconds` for locks (None: a beat), runs a little longer at most, and then raises
    Busy. If the server is gone, frozen or read-only, it raises one of AWAY. The thread calls `idle` before it waits for
    anything else.
    """
    before, thread = _own(), threading.get_ident()
    own = list(before)
    with ExitStack() as stack:
        for name in sorted({alias(), sessions_alias() or alias()}):
            connection = _connection(name, beat_seconds, lock_seconds)
            if connection is not None:
                own.append(connection)
                stack.callback(connections.__setitem__, name, connections[name])
                connections[name] = connection
        _thread.own = own
        try:
            yield
        finally:
            if threading.get_ident() == thread:
                throw_away()
                for connection in own[len(before) :]:
                    if isinstance(connection, OwnPostgres):
                        connection.deadline.close()
                _thread.own = before
            else:
                stack.pop_all()  # the process ends: Python's main thread tidies up what a daemon thread has left


def _own() -> list[BaseDatabaseWrapper]:
    found: list[BaseDatabaseWrapper] = getattr(_thread, "own", [])
    return found


def _connection(name: str, beat_seconds: float, lock_seconds: float | None) -> BaseDatabaseWrapper | None:
    """A connection that nothing else uses. None for a vendor that the engine doesn't know, of the sessions' database.

    The vendor decides, and not the engine's name: PostGIS, SpatiaLite, django-tenants and psqlextra have their own.
    """
    settings: dict[str, Any] = copy.deepcopy(connections.settings[name])
    # Django sends its health check past the deadline, and an error closes the connection in any case.
    settings |= {"CONN_MAX_AGE": None, "AUTOCOMMIT": True, "CONN_HEALTH_CHECKS": False}
    settings.setdefault("OPTIONS", {}).pop("pool", None)
    backend = load_backend(settings["ENGINE"]).DatabaseWrapper
    if backend.vendor == "sqlite":
        # Django's default mode fails when a reading transaction begins to write.
        settings["OPTIONS"] |= {"timeout": beat_seconds, "transaction_mode": "IMMEDIATE"}
        connection: BaseDatabaseWrapper = backend(settings, name)
        connection.execute_wrappers.append(_translate)
        return connection
    if backend.vendor == "postgresql":
        wait = max(beat_seconds, MIN_WAIT_SECONDS)
        lock = wait if lock_seconds is None else lock_seconds
        settings["OPTIONS"] = own_options(settings["OPTIONS"], wait, lock)
        kind: Any = type("OwnConnection", (OwnPostgres, backend), {})
        own: Any = kind(settings, name)
        own.bound(wait, lock)
        return own  # type: ignore[no-any-return]
    return None


def _translate(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    with waiting(), translated():
        return execute(sql, params, many, context)


def idle() -> None:
    """Note that this thread runs no statement, so that its connection is not taken for frozen."""
    for connection in _own():
        if isinstance(connection, OwnPostgres):
            connection.deadline.clear()


def throw_away() -> None:
    """Close all connections of this thread; the next statement opens a new one."""
    idle()
    for connection in connections.all(initialized_only=True):
        connection.close()


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
