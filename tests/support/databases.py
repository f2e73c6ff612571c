"""Databases for server processes: migrated and seeded once in a test run, then copied for each test."""

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from tests.support.processes import environment

GROUPS = {"viewer": "Support viewer", "support": "Support", "lead": "Support lead"}


@dataclass(frozen=True)
class TestUser:
    """A user with a logged-in session. The password of all is `tests.support.seed.PASSWORD`."""

    __test__ = False

    id: Any
    """As SQLite stores it: a number, or the 32 digits of a UUID."""
    name: str
    session: str
    """The value of the `sessionid` cookie."""

    @property
    def cookie(self) -> str:
        """The Cookie header."""
        return f"sessionid={self.session}"


@dataclass
class Database:
    """A migrated database with the users u1 to u9, viewer, support and lead (of the console's groups), admin."""

    url: str
    users: dict[str, TestUser] = field(default_factory=dict)
    settings: str = "console.settings"
    """The settings module of the project whose it is."""

    def user(self, name: str) -> TestUser:
        return self.users[name]

    def add_users(self, names: Iterable[str], *, group: str | None = None, superuser: bool = False) -> list[TestUser]:
        """Users besides those that every database has, each with a session. Takes a second, for any number."""
        wanted = [{"name": name, "group": group, "superuser": superuser} for name in names]
        made = _seed(self.url, wanted, settings=self.settings)
        self.users.update(made)
        return list(made.values())

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a statement of plain SQL with `?` as placeholder, committed at once, on a new connection."""
        if self.url.startswith("sqlite"):
            path = self.url.removeprefix("sqlite:///")
            with contextlib.closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as connection:
                return connection.execute(statement, parameters).fetchall()
        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as postgres:
            cursor = postgres.execute(statement.replace("?", "%s").encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def writable(self) -> bool:
        """Whether nobody holds SQLite's one write lock for longer than a transaction takes."""
        if not self.url.startswith("sqlite"):
            return True
        with contextlib.closing(
            sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=0.5, isolation_level=None)
        ) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE").connection.rollback()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                return False
            return True


class SQLiteTemplate:
    """Copies of one SQLite file."""

    def __init__(self, path: Path, settings: str = "console.settings") -> None:
        self.path = path
        self.settings = settings
        self.users = _seed_template(f"sqlite:///{path}", settings)

    @contextlib.contextmanager
    def copy(self, folder: Path) -> Iterator[Database]:
        target = folder / "db.sqlite3"
        with (
            contextlib.closing(sqlite3.connect(self.path)) as source,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)
        yield Database(f"sqlite:///{target}", dict(self.users), self.settings)


class PostgresTemplate:
    """Databases made from one, on the PostgreSQL server whose data is in a folder."""

    def __init__(self, socket_folder: Path) -> None:
        self.socket_folder = socket_folder
        self._copies = 0
        # No test cuts the power: without waiting for the disk, no other test's writing makes a lock long.
        self._execute("ALTER SYSTEM SET fsync = off")
        self._execute("SELECT pg_reload_conf()")
        self._execute("CREATE DATABASE {}", "template")
        self.users = _seed_template(self.url("template"))

    def url(self, name: str) -> str:
        return f"postgres://postgres@/{name}?host={quote(str(self.socket_folder), safe='')}"

    @contextlib.contextmanager
    def copy(self, folder: Path) -> Iterator[Database]:
        del folder  # the server has one of its own
        self._copies += 1
        name = f"test_{self._copies}"
        self._execute("CREATE DATABASE {} TEMPLATE template", name)
        yield Database(self.url(name), dict(self.users))
        self._execute("DROP DATABASE {} WITH (FORCE)", name)

    def _execute(self, statement: str, name: str = "") -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)) if name else statement.encode())


def _seed_template(url: str, settings: str = "console.settings") -> dict[str, TestUser]:
    wanted: list[dict[str, Any]] = [
        {"name": f"u{number}", "group": None, "superuser": False} for number in range(1, 10)
    ]
    wanted += [{"name": name, "group": group, "superuser": False} for name, group in GROUPS.items()]
    wanted += [{"name": "admin", "group": None, "superuser": True}]
    return _seed(url, wanted, settings=settings, migrate=True)


def _seed(url: str, wanted: list[dict[str, Any]], *, settings: str, migrate: bool = False) -> dict[str, TestUser]:
    process = subprocess.run(
        [sys.executable, "-m", "tests.support.seed"],
        input=json.dumps({"migrate": migrate, "users": wanted}),
        capture_output=True,
        text=True,
        timeout=120,
        **environment({"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": settings}),
    )
    assert process.returncode == 0, f"the test database could not be made:\n{process.stderr}"
    made = json.loads(process.stdout)
    return {name: TestUser(user["id"], name, user["session"]) for name, user in made.items()}
