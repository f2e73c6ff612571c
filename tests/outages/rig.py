"""What is under test: two nodes, one on Daphne and one on uvicorn, on one database, and the users of a scenario."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

from tests.chaos.stores import Postgres
from tests.outages import bounds
from tests.outages.clients import Visitor
from tests.support.databases import Database, PostgresTemplate, SQLiteTemplate, TestUser
from tests.support.scenes import start_together
from tests.support.servers import Server

KINDS = {"web-1": "daphne", "web-2": "uvicorn"}
OTHERS = [f"other{number}" for number in range(100)]
READY_SECONDS = 10.0  # after which a node that an earlier scenario has broken is started anew
DATABASE = "template"  # which PostgresTemplate fills
ROLE = "app"  # the nodes' own role, which has no right of a superuser

STEADY_SECONDS = 2 * bounds.PACE.lease + bounds.SLACK

NODES = (
    "SELECT name, steady_since FROM connections_node WHERE fenced_at IS NULL AND retired_at IS NULL ORDER BY started_at"
)
HELD = "SELECT id, opened_at FROM connections_managerrecord WHERE closed_at IS NULL"
OLD = "SELECT r.id FROM connections_managerrecord r WHERE r.closed_at IS NULL AND extract(epoch FROM r.opened_at) < {}"
OLD_SQLITE = (
    "SELECT id FROM connections_managerrecord WHERE closed_at IS NULL"
    " AND (julianday(opened_at) - 2440587.5) * 86400 < {}"
)


class Unable(Exception):
    """This machine lacks something that a rig takes. The message says what."""


class ServeRefuses(Unable):
    """`serve` ended at its start. The message is what it printed."""


@dataclass
class Rig:
    """`database` is a direct address with all rights; the nodes have their own."""

    folder: Path
    database: Database
    nodes: list[Server]
    postgres: Postgres | None = None
    others: list[TestUser] = field(default_factory=list)
    standby: Postgres | None = None

    @property
    def ada(self) -> TestUser:
        """The user whose rows a stranger holds."""
        return self.database.user("u1")

    @property
    def bystanders(self) -> list[TestUser]:
        """The users of the living clients that no lock touches."""
        return [self.database.user(f"u{number}") for number in range(2, 8)]

    def start(self) -> None:
        """Add the users of the newcomers and start the nodes. Raises ServeRefuses."""
        self.others = self.database.add_users(OTHERS)
        try:
            start_together(*self.nodes)
        except AssertionError:
            ended = [node for node in self.nodes if not node.running]
            if not ended:
                raise
            raise ServeRefuses(ended[0].output()) from None

    def make_whole(self) -> None:
        """Wait until all nodes are ready and steady, and start those anew that an earlier scenario has broken."""
        for node in self.nodes:
            if node._process is not None and node.running:
                with contextlib.suppress(AssertionError):
                    node.wait_until("/readyz", within=READY_SECONDS)
                    continue
            node.clean_up()
            node.start(ready="/readyz")
        deadline = time.monotonic() + STEADY_SECONDS
        while not self._all_steady():
            assert time.monotonic() < deadline, "the nodes renew too late"
            time.sleep(0.05)

    def _all_steady(self) -> bool:
        """Whether each node could fence another."""
        since = dict(self.database.query(NODES))  # the newest node of each name
        return all(_epoch(since[name]) < time.time() - bounds.PACE.lease for name in KINDS)

    def fenced_since(self, moment: float) -> list[str]:
        rows = self.database.query("SELECT name, fenced_at FROM connections_node WHERE fenced_at IS NOT NULL")
        return [name for name, at in rows if _epoch(at) >= moment]

    def held(self) -> set[str]:
        return {_uuid(row[0]) for row in self.database.query(HELD)}

    def held_before(self, moment: float) -> set[str]:
        """The held records that were opened before `moment`, on the clock of this machine."""
        statement = OLD_SQLITE if self.database.url.startswith("sqlite") else OLD
        return {_uuid(row[0]) for row in self.database.query(statement.format(f"{moment:.6f}"))}

    def stale(self, moment: float, clients: list[Visitor]) -> set[str]:
        """Records from before `moment` that should be gone, and clients that should have one."""
        expected = {client.manager for client in clients if client.is_open}
        leaving = {client.manager for client in clients if client.left_at is not None and client.left_at >= moment}
        return (self.held_before(moment) - expected - leaving) | (expected - self.held())


def _epoch(value: Any) -> float:
    if isinstance(value, str):
        return datetime.fromisoformat(value).replace(tzinfo=UTC).timestamp()
    return float(value.timestamp())


def _uuid(value: Any) -> str:
    return str(UUID(str(value)))


def make_nodes(folder: Path, url: str) -> list[Server]:
    return [
        Server(Database(url), folder / f"{name}.log", kind=kind, node_name=name, **bounds.settings())
        for name, kind in KINDS.items()
    ]


def make_role(database: Database) -> None:
    """A role for the nodes that owns nothing and may do on our tables what their owner may."""
    database.query(
        f"DO $$ BEGIN CREATE ROLE {ROLE} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"  # a fixed name
    )
    database.query(f"GRANT postgres TO {ROLE}")


def url_on(sockets: str, **options: str) -> str:
    """The address of the database through one or several folders of Unix sockets, for the nodes' role."""
    more = "".join(f"&{key}={value}" for key, value in options.items())
    return f"postgres://{ROLE}@/{DATABASE}?host={quote(sockets, safe='')}{more}"


@contextlib.contextmanager
def seeded_postgres(folder: Path) -> Iterator[tuple[Postgres, Database]]:
    """A PostgreSQL with our tables and users in the database `template`, and with the nodes' role."""
    postgres = Postgres(folder / "pg")
    postgres.start()
    try:
        template = PostgresTemplate(postgres.socket_folder)
        database = Database(template.url(DATABASE), template.users)
        make_role(database)
        yield postgres, database
    finally:
        postgres.stop()


@contextlib.contextmanager
def started(rig: Rig) -> Iterator[Rig]:
    """Start the nodes of a rig, and end them with the block."""
    try:
        rig.start()
        yield rig
    finally:
        for node in rig.nodes:
            node.clean_up()


@contextlib.contextmanager
def postgres_rig(folder: Path) -> Iterator[Rig]:
    """A PostgreSQL of its own, and two nodes on it."""
    with seeded_postgres(folder) as (postgres, database):
        nodes = make_nodes(folder, url_on(str(postgres.socket_folder)))
        with started(Rig(folder, database, nodes, postgres)) as rig:
            yield rig


@contextlib.contextmanager
def sqlite_rig(folder: Path) -> Iterator[Rig]:
    """Two nodes on one SQLite file."""
    template = SQLiteTemplate(folder / "template.sqlite3")
    with template.copy(folder) as database, started(Rig(folder, database, make_nodes(folder, database.url))) as rig:
        yield rig
