"""Locks that another program holds on a real PostgreSQL, and who waits for them."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import psycopg

from tests.support.databases import Database


@contextmanager
def held(db: Database, statement: str, parameters: Sequence[Any] = ()) -> Iterator[psycopg.Connection[Any]]:
    """Hold the locks of a statement in a transaction on a connection of its own, and roll it back at the end."""
    with psycopg.connect(db.url) as stranger:
        stranger.execute(statement.encode(), parameters)
        yield stranger
        stranger.rollback()


def records_of(user: Any) -> tuple[str, list[Any]]:
    """The statement that locks all records of a user, and its parameters."""
    return "SELECT 1 FROM connections_managerrecord WHERE user_id = %s FOR UPDATE", [user.pk]


@contextmanager
def no_lock_waits(db: Database) -> Iterator[None]:
    """Nobody waits for a row's lock for longer than two looks, a hundredth of a second apart."""
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype IN ('tuple', 'transactionid')"
    ended, waits = threading.Event(), [0]

    def look() -> None:
        with closing(psycopg.connect(db.url, autocommit=True)) as connection:
            in_a_row = 0
            while not ended.wait(0.01):
                (found,) = connection.execute(query).fetchone() or (0,)
                in_a_row = in_a_row + 1 if found else 0
                waits[0] = max(waits[0], in_a_row)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert waits[0] <= 2, f"somebody waited in {waits[0]} looks in a row"
