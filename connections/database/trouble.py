"""Put database errors into plain words for people and probes, without addresses, names or statements."""

from collections.abc import Iterator

from django.db import DatabaseError

from connections.database.errors import AWAY, Busy

# By SQLSTATE, and by what the error's text has where a driver gives none: while it connects, and on SQLite.
_WORDS = (
    ("25006", "read-only", "the database is read-only"),
    ("", "readonly database", "the database is read-only"),
    ("53100", "disk is full", "the database's disk is full"),
    ("", "no space left", "the database's disk is full"),
    ("53300", "too many", "the database takes no more connections"),
    ("", "remaining connection slots", "the database takes no more connections"),
    ("57P03", "starting up", "the database is starting up"),
    ("57P01", "shutting down", "the database is shutting down"),
    ("28P01", "authentication failed", "the database refused the log-in"),
    ("", "database is locked", "another program holds the database's write lock"),
)


def in_words(error: BaseException) -> str:
    """Return one clause about an error, such as `the database is read-only`. For an error that isn't the database's,
    return the name of its class.
    """
    states = {getattr(each, "sqlstate", None) for each in _causes_of(error)}
    text = str(error).lower()
    for state, part, words in _WORDS:
        if isinstance(error, (*AWAY, DatabaseError)) and (state in states or part in text):
            return words
    if isinstance(error, Busy):
        return "another transaction holds a lock that it needs"
    if isinstance(error, AWAY):
        return "the database does not answer"
    return type(error).__name__


def _causes_of(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
