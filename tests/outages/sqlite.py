"""SQLite has one kind of trouble of its own: another process holds the write lock."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from tests.outages.rig import Rig, sqlite_rig
from tests.outages.scenario import Scenario


@asynccontextmanager
async def write_lock(rig: Rig) -> AsyncIterator[None]:
    path = rig.database.url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


SCENARIOS = [
    Scenario(
        "sqlite-lock",
        "another process holds SQLite's write lock",
        write_lock,
        sqlite_rig,
        away=True,
        touched_leave=True,
        seconds=(1.0, 10.0, 60.0),
        insistent=20,
    )
]
