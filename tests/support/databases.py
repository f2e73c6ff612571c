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
    """A user with a logged-in session. Every user's password is `tests.support.seed.PASSWORD`."""

    __test__ = False

    id: Any
    """The primary key as SQLite stores it: a number, or the 32 hexadecimal digits of a UUID."""
    name: str
    session: str
    """The value of the `sessionid` cookie."""

    @property
    def cookie(self) -> str:
        """The Cookie header."""
        return f"sessionid={self.session}"


@dataclass
class Database:
    """A migrated database with the users u1 to u9, one of each console group (viewer, support, lead), and admin."""

    url: str
    users: dict[str, TestUser] = field(default_factory=dict)
    settings: str = "console.settings"
    """The settings module of the project that the database belongs to."""

    def user(self, name: str) -> TestUser:
        return self.users[name]

    def add_users(self, names: Iterable[str], *, group: str | None = None, superuser: bool = False) -> list[TestUser]:
        """Add users, each with a session, to those that every database has. The call takes a second for any number."""
        wanted = [{"name": name, "group": group, "superuser": superuser} for name in names]
        made = _seed(self.url, wanted, settings=self.settings)
        self.users.update(made)
        return list(made.values())

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute one SQL statement with `?` as placeholder on a new connection in autocommit mode; return its rows."""
        if self.url.startswith("sqlite"):
            path = self.url.removeprefix("sqlite:///")
            with contextlib.closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as connection:
                return connection.execute(statement, parameters).fetchall()
        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as postgres:
            cursor = postgres.execute(statement.replace("?", "%s").encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def writable(self) -> bool:
        """Whether SQLite's write lock can be taken within half a second. Always True on PostgreSQL."""
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
    """One migrated and seeded SQLite file, of which each test gets a copy."""

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
    """One migrated and seeded database on a PostgreSQL server, of which each test gets a copy on the same server."""

    def __init__(self, socket_folder: Path) -> None:
        self.socket_folder = socket_folder
        self._copies = 0
        # No test cuts the power. Without fsync, no transaction holds its locks while another test's data go to the
        # disk.
        self._execute("ALTER SYSTEM SET fsync = off")
        self._execute("SELECT pg_reload_conf()")
        self._execute("CREATE DATABASE {}", "template")
        self.users = _seed_template(self.url("template"))

    def url(self, name: str) -> str:
        return self.url_of(self.socket_folder, name)

    @staticmethod
    def url_of(socket_folder: Path, name: str) -> str:
        """The address of a database on the server whose Unix socket is in this folder."""
        return f"postgres://postgres@/{name}?host={quote(str(socket_folder), safe='')}"

    @contextlib.contextmanager
    def copy(self, folder: Path) -> Iterator[Database]:
        del folder  # a parameter of SQLiteTemplate.copy; PostgreSQL keeps its data in the server's own folder
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
