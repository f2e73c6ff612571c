"""A database in trouble: away, frozen, restarted, read-only, full, without connections, or cutting each of ours."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psycopg

from tests.chaos.stores import Postgres
from tests.outages.rig import ROLE, Rig, Unable, postgres_rig
from tests.outages.scenario import Scenario
from tests.support.databases import Database

CUT_EVERY = 0.1  # between two connections of ours that the server ends
KEPT = 2  # the connections that the nodes' role may have, and a stranger has
FULL_MEGABYTES = 64
CHUNK = 64 * 1024

OURS = "SELECT pid FROM pg_stat_activity WHERE usename = ? AND backend_type = 'client backend' ORDER BY backend_start"
CUT = "SELECT pg_terminate_backend(?)"


def _postgres(rig: Rig) -> Postgres:
    assert rig.postgres is not None, "only PostgreSQL can be in this trouble"
    return rig.postgres


@asynccontextmanager
async def stopped(rig: Rig) -> AsyncIterator[None]:
    """Stop the server without a checkpoint, and start it again at the end."""
    await asyncio.to_thread(_postgres(rig).stop, hard=True)
    try:
        yield
    finally:
        await asyncio.to_thread(_postgres(rig).start)


@asynccontextmanager
async def frozen(rig: Rig) -> AsyncIterator[None]:
    """Freeze the server: connections stay, and nothing is answered."""
    _postgres(rig).freeze()
    try:
        yield
    finally:
        _postgres(rig).thaw()


@asynccontextmanager
async def restarted(rig: Rig) -> AsyncIterator[None]:
    """Restart the server in order, as an upgrade does, and go on for the rest of the block."""
    await asyncio.to_thread(_postgres(rig).stop)
    await asyncio.to_thread(_postgres(rig).start)
    yield


@asynccontextmanager
async def read_only(rig: Rig) -> AsyncIterator[None]:
    """Make every transaction read-only, as a provider does whose disk is nearly full."""
    await asyncio.to_thread(_configure, rig.database, "ALTER SYSTEM SET default_transaction_read_only = on")
    try:
        yield
    finally:
        await asyncio.to_thread(_configure, rig.database, "ALTER SYSTEM RESET default_transaction_read_only")


def _configure(database: Database, statement: str) -> None:
    database.query(statement)
    database.query("SELECT pg_reload_conf()")


@asynccontextmanager
async def no_connections_left(rig: Rig) -> AsyncIterator[None]:
    """A stranger holds all connections that the nodes' role may have, and those of the nodes were ended."""
    database = rig.database
    strangers: list[psycopg.Connection] = []
    await asyncio.to_thread(database.query, f"ALTER ROLE {ROLE} CONNECTION LIMIT {KEPT}")
    try:
        while len(strangers) < KEPT:
            await asyncio.to_thread(_cut_all, rig, strangers)
            try:
                strangers.append(await asyncio.to_thread(psycopg.connect, database.url, user=ROLE))
            except psycopg.OperationalError:
                continue  # a node was quicker
        await asyncio.to_thread(_cut_all, rig, strangers)
        yield
    finally:
        await asyncio.to_thread(database.query, f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")
        for stranger in strangers:
            stranger.close()


def _cut_all(rig: Rig, spared: list[psycopg.Connection]) -> None:
    kept = {connection.info.backend_pid for connection in spared}
    for (pid,) in rig.database.query(OURS, [ROLE]):
        if pid not in kept:
            rig.database.query(CUT, [pid])


@asynccontextmanager
async def each_connection_cut(rig: Rig) -> AsyncIterator[None]:
    """End one connection of the nodes after the other."""

    async def cut() -> None:
        done: set[int] = set()
        while True:
            pids = [row[0] for row in await asyncio.to_thread(rig.database.query, OURS, [ROLE])]
            fresh = [pid for pid in pids if pid not in done]
            if fresh:
                done.add(fresh[0])
                await asyncio.to_thread(rig.database.query, CUT, [fresh[0]])
            await asyncio.sleep(CUT_EVERY)

    cutting = asyncio.create_task(cut(), name="cut")
    try:
        yield
    finally:
        cutting.cancel()
        await asyncio.gather(cutting, return_exceptions=True)


# A disk that is full


@asynccontextmanager
async def disk_full(rig: Rig) -> AsyncIterator[None]:
    """Fill the file system that has our tables."""
    ballast = rig.folder / "small" / "ballast"
    await asyncio.to_thread(_fill, ballast)
    try:
        yield
    finally:
        ballast.unlink()


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * CHUNK)
        except OSError:
            return


@contextmanager
def small_disk_rig(folder: Path) -> Iterator[Rig]:
    """A PostgreSQL whose tables are on a file system of some megabytes, and two nodes on it. Raises Unable."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        raise Unable("a file system of some megabytes takes root and mount(8)")
    small = folder / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={FULL_MEGABYTES}m", "tmpfs", str(small)], check=False
    )
    if mounted.returncode:
        raise Unable("this container may not mount a file system")
    try:
        with postgres_rig(folder) as rig:
            _move_tables(rig, small / "space")
            yield rig
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def _move_tables(rig: Rig, space: Path) -> None:
    space.mkdir()
    shutil.chown(space, _postgres(rig)._user)
    rig.database.query(f"CREATE TABLESPACE small LOCATION '{space}'")
    rig.database.query("ALTER TABLE ALL IN TABLESPACE pg_default SET TABLESPACE small")
    rig.database.query("ALTER INDEX ALL IN TABLESPACE pg_default SET TABLESPACE small")


AWAY_SECONDS = (1.0, 10.0, 60.0, 600.0)
SCENARIOS = [
    Scenario("stopped", "PostgreSQL is stopped", stopped, away=True, seconds=AWAY_SECONDS, insistent=100),
    Scenario("frozen", "PostgreSQL is frozen", frozen, away=True, seconds=AWAY_SECONDS, insistent=100),
    Scenario("restart", "PostgreSQL is restarted", restarted, seconds=(2.0,)),
    Scenario("read-only", "every transaction is made read-only", read_only, away=True, seconds=(1.0, 10.0, 60.0)),
    Scenario("no-connections", "a stranger has all connections of our role", no_connections_left, away=True,
             seconds=(1.0, 10.0, 60.0)),
    Scenario("terminated", "each of our connections is ended in turn", each_connection_cut, seconds=(10.0, 60.0)),
    Scenario("disk-full", "the disk with our tables is full", disk_full, small_disk_rig, seconds=(10.0, 60.0)),
]  # fmt: skip
