"""A database connection for each of the chat's threads: persistent, with a bound on every wait, closed on an error.

It is not Django's connection of the thread. That one has the project's time limits or none, a lock of another
transaction would keep the thread for as long as it is held, and a pool would hand out a connection again that leads to
a server which became a standby.
"""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

from django.db import DataError, IntegrityError, InternalError, connections
from django.db import Error as DatabaseError

from connections import database
from connections.models.routing import alias

T = TypeVar("T")

LOST = (*database.AWAY, InternalError)  # InternalError: the server became a standby, and refuses to write
HARMLESS = (database.Busy, IntegrityError, DataError)  # the server refused one statement; the connection is good


class _OfThread(threading.local):
    """The settings that the thread's connection was made with, and how to close it."""

    settings: dict[str, Any] | None = None
    stack: ExitStack | None = None


_of_thread = _OfThread()


def call(function: Callable[[], T], beat_seconds: float, lock_seconds: float) -> T:
    """Run a function on the connection of the calling thread. Raises what it raises, and Busy if another transaction's
    lock made a statement wait for longer than `lock_seconds`. The other bounds follow from `beat_seconds`
    (`database.own_connection`).

    If a connection from an earlier call turns out to be lost, the function runs again on a new one: otherwise each
    thread would fail one call after a restart or a failover. So the function must bear to run twice.
    """
    _open(beat_seconds, lock_seconds)
    was_open = database.current().connection is not None
    try:
        return _once(function)
    except LOST:
        if not was_open:
            raise
    return _once(function)


def _once(function: Callable[[], T]) -> T:
    try:
        return function()
    except DatabaseError as error:
        # A lock that is waited for at the commit comes without the engine's wrapper of statements.
        if not isinstance(error, database.Busy) and (database.is_busy(error) or _is_sqlite_lock(error)):
            raise database.Busy(str(error)) from error
        if not isinstance(error, HARMLESS):
            database.throw_away()
        raise
    finally:
        database.idle()


def _open(beat_seconds: float, lock_seconds: float) -> None:
    """Give the thread its connection, unless it has one for these settings: tests put other settings in their place."""
    settings = connections.settings[alias()]
    if _of_thread.settings is settings:
        return
    if _of_thread.stack is not None:
        _of_thread.stack.close()
    _of_thread.stack = ExitStack()
    # On SQLite the only bound is the wait for its lock, which `own_connection` takes from the beat.
    beat = lock_seconds if database.is_sqlite() else beat_seconds
    _of_thread.stack.enter_context(database.own_connection(beat, lock_seconds=lock_seconds))
    _of_thread.settings = settings


def _is_sqlite_lock(error: DatabaseError) -> bool:
    code = getattr(error.__cause__, "sqlite_errorcode", 0)
    return (code & 0xFF) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)  # the lowest byte: the others tell of a kind
