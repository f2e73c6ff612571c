"""Tell database errors apart: another's lock, a fault of the statement, or a connection that is of no use.

The drivers' classes don't say it: a read-only server after a failover is an InternalError, a trigger that fails for one
row an OperationalError. The SQLSTATE does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from django.db import DatabaseError, Error, IntegrityError, InterfaceError, OperationalError, ProgrammingError
from django.db.utils import DataError, NotSupportedError

AWAY = (OperationalError, InterfaceError)

READ_ONLY = "25006"  # the server is a standby, or has become one

CANCELED = "57014"  # of a statement that took too long

# SQLSTATEs of one refused statement: lock_timeout, statement_timeout, deadlock, serialization failure.
BUSY_STATES = {"55P03", "57014", "40P01", "40001"}

# Classes of SQLSTATEs, and two of one corrupted page, that a new connection would not cure: the statement, the row that
# it writes, or a trigger on that row is at fault.
STATEMENT_CLASSES = {"09", "20", "21", "22", "23", "27", "2F", "38", "39", "42", "44", "54", "HV", "P0"}
CORRUPTED_STATES = {"XX001", "XX002"}
# Classes of what befalls a whole connection or server: lost, in the wrong state, refused, full, stopping.
SERVER_CLASSES = {"08", "25", "28", "3D", "53", "57"}
STATEMENT_ERRORS = (DataError, IntegrityError, NotSupportedError, ProgrammingError)


class Busy(DatabaseError):
    """The database works, but another transaction's lock made this one wait for too long. Try again."""


class Meaning(StrEnum):
    """What the caller does after an error. BUSY: it tries again. STATEMENT: it gives this item up. AWAY: it throws the
    connection away and connects again.
    """

    BUSY = "busy"
    STATEMENT = "statement"
    AWAY = "away"


def sqlstate_of(error: BaseException) -> str:
    """The SQLSTATE of an error that Django raised for its driver; empty if there is none."""
    return getattr(error.__cause__, "sqlstate", None) or ""


def meaning_of(error: Error) -> Meaning:
    """Tell what an error means, from its SQLSTATE, or from its class if there is none (SQLite; a lost connection)."""
    state = sqlstate_of(error)
    if isinstance(error, Busy) or state in BUSY_STATES:
        return Meaning.BUSY
    if state:
        own = state[:2] in STATEMENT_CLASSES or state in CORRUPTED_STATES
        return Meaning.STATEMENT if own else Meaning.AWAY
    if isinstance(error, STATEMENT_ERRORS) or (error.__cause__ is None and not isinstance(error, AWAY)):
        return Meaning.STATEMENT  # without a cause: Django itself raised it
    return Meaning.AWAY


def is_busy(error: BaseException) -> bool:
    """Whether the database answered and refused one statement, because of another's lock or a statement time-out."""
    return isinstance(error, Error) and meaning_of(error) is Meaning.BUSY


def is_away(error: BaseException) -> bool:
    """Whether the connection that raised this error is of no use: the server is gone, stopping, full or read-only."""
    return isinstance(error, Error) and meaning_of(error) is Meaning.AWAY


def may_be_one_rows(error: BaseException) -> bool:
    """Whether one row may be at fault, if new connections raise this error again: its block can't be read, or a trigger
    has an SQLSTATE of its own.
    """
    return is_away(error) and sqlstate_of(error)[:2] not in {"", *SERVER_CLASSES}


@contextmanager
def translated() -> Iterator[None]:
    """Raise each error of the database as the class that says what it means: Busy, one of AWAY, or neither."""
    try:
        yield
    except Busy:
        raise
    except DatabaseError as error:
        meaning = meaning_of(error)
        if meaning is Meaning.BUSY:
            raise Busy(str(error)) from error.__cause__
        if meaning is Meaning.AWAY and not isinstance(error, AWAY):
            raise OperationalError(str(error)) from error.__cause__
        if meaning is Meaning.STATEMENT and isinstance(error, AWAY):
            raise DatabaseError(str(error)) from error.__cause__
        raise
