"""Helpers for acceptance tests: fast settings and the bounds that follow from them, users in the states that matter,
and queries for their records.
"""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from typing import Any
from uuid import UUID, uuid4

from tests.support.clients import ChatClient, connect, connect_many, eventually
from tests.support.databases import Database, TestUser
from tests.support.servers import Server

MARGIN = 1.0  # seconds, added to each bound of the design, since work that is due may wait for one of two busy cores
GIVEN_UP = 4.0  # seconds after which a handshake is told to try again, if the database does not answer

Serve = Callable[..., Server]


@dataclass(frozen=True)
class Pace:
    """Intervals in seconds, faster than the defaults and in their proportions, and the bounds that follow from them."""

    beat: float = 0.25
    lease: float = 2.0
    probe: float = 0.6
    heartbeat: float = 60.0
    pong: float = 0.5
    sweep: float = 0.5

    def settings(self, **others: object) -> dict[str, Any]:
        """Keyword arguments for `serve` and `manage`: `beat_seconds` and so on for the intervals, and `others`."""
        return {f"{f.name}_seconds": getattr(self, f.name) for f in fields(self)} | others

    @property
    def back_at_limit(self) -> float:
        """The bound within which a user over the limit is back at the limit."""
        return self.probe + 2 * self.beat + MARGIN

    @property
    def silent_freed(self) -> float:
        """The bound, from the last frame in either direction, within which a silent client's record is freed."""
        return self.heartbeat + self.pong + self.beat + MARGIN

    @property
    def lost_freed(self) -> float:
        """The bound, from a node's death or the start of its witness, within which the node's records are freed."""
        return self.lease + 1.2 * self.sweep + self.beat + MARGIN


PAUSED = Pace(sweep=0)
"""The sweep is off and the heartbeat is long, so dead managers keep their slots until somebody acts."""
AUTOMATIC = Pace(heartbeat=1.0)
"""The sweep is on and the heartbeat is short, so dead managers are freed without anybody acting."""


def start_together(*servers: Server, ready: str = "/readyz") -> None:
    """Start several servers at the same time, since each start takes seconds."""
    with ThreadPoolExecutor(len(servers)) as pool:
        list(pool.map(lambda server: server.start(ready=ready), servers))


# --- Rows


@dataclass(frozen=True)
class Record:
    id: str
    node: str
    state: str
    reason: str
    evidence: str
    actor_kind: str


def records(database: Database, user: TestUser, *states: str) -> list[Record]:
    """The user's records in one of `states`, or all of them if none is named. The ids are written as in the frames."""
    rows = database.query(
        "SELECT r.id, n.name, r.state, r.close_reason, r.evidence, r.actor_kind FROM connections_managerrecord r"
        " JOIN connections_node n ON n.id = r.node_id WHERE r.user_id = ? ORDER BY r.opened_at",
        [user.id],
    )
    found = [Record(str(UUID(str(row[0]))), *row[1:]) for row in rows]
    return [record for record in found if not states or record.state in states]


def record_of(database: Database, user: TestUser, manager: str) -> Record:
    return next(record for record in records(database, user) if record.id == manager)


def counted_ids(database: Database, user: TestUser) -> set[str]:
    """The ids of the user's records that take slots."""
    return {record.id for record in records(database, user, "live")}


def held_ids(database: Database, user: TestUser) -> set[str]:
    """The ids of the user's records that are not closed."""
    return {record.id for record in records(database, user, "live", "closing")}


def close_reasons(database: Database, user: TestUser) -> Counter[str]:
    """Count the user's closed records by reason, and check that each of them has evidence and an actor."""
    closed = records(database, user, "closed")
    assert all(record.evidence and record.actor_kind for record in closed), closed
    return Counter(record.reason for record in closed)


def rows_except_probes(database: Database) -> list[Any]:
    """All rows that a dry run or a diagnosis may not change: records without their probe columns, gates, fences."""
    return [
        database.query(
            "SELECT id, user_id, node_id, state, opened_at, closing_at, closed_at, close_reason, evidence,"
            " actor_kind, actor, run_id FROM connections_managerrecord ORDER BY id"
        ),
        database.query("SELECT * FROM connections_usergate ORDER BY id"),
        database.query("SELECT id, fenced_at, retired_at, drain_wanted_at FROM connections_node ORDER BY id"),
    ]


def lease_is_over(database: Database, name: str) -> bool:
    """Whether the lease of the newest node of this name is over by SQLite's clock."""
    rows = database.query(
        "SELECT lease_expires_at < strftime('%Y-%m-%d %H:%M:%f', 'now') FROM connections_node"
        " WHERE name = ? ORDER BY started_at DESC LIMIT 1",
        [name],
    )
    return bool(rows[0][0])


def fenced_nodes(database: Database) -> list[str]:
    """The names of all fenced nodes, in the order of their starts."""
    rows = database.query("SELECT name FROM connections_node WHERE fenced_at IS NOT NULL ORDER BY started_at")
    return [row[0] for row in rows]


@contextlib.contextmanager
def highest_count(database: Database, user: TestUser) -> Iterator[Callable[[], int]]:
    """Count the user's live records again and again in a thread during the block; yields a function that returns the
    highest count.
    """
    path = database.url.removeprefix("sqlite:///")
    stop = threading.Event()
    counts: Counter[int] = Counter()

    def sample() -> None:
        with contextlib.closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as connection:
            while not stop.is_set():
                query = "SELECT count(*) FROM connections_managerrecord WHERE user_id = ? AND state = 'live'"
                counts[connection.execute(query, [user.id]).fetchone()[0]] += 1
                time.sleep(0.001)  # the cores are needed for the servers

    def highest() -> int:
        assert counts.total() > 100, "hardly a sample was taken"
        return max(counts)

    thread = threading.Thread(target=sample, name="samples")
    thread.start()
    try:
        yield highest
    finally:
        stop.set()
        thread.join()


# --- Users


def manager_of(client: ChatClient) -> str:
    """The id of the manager that owns a client's socket, from the client's `ready` frame."""
    return str(client.of("ready")[0]["manager"])


async def wait_until_ready(clients: list[ChatClient]) -> list[str]:
    """Wait until all clients are ready, and return the ids of their managers."""
    for client in clients:
        await client.expect("ready", timeout=10)
    return [manager_of(client) for client in clients]


@dataclass
class StuckUser:
    """A user with 20 of 20 slots taken, of which 3 are taken by living clients."""

    user: TestUser
    lost: list[ChatClient] = field(default_factory=list)
    silent: list[ChatClient] = field(default_factory=list)
    living: list[ChatClient] = field(default_factory=list)

    @property
    def dead_ids(self) -> set[str]:
        return {manager_of(client) for client in [*self.lost, *self.silent]}

    @property
    def living_ids(self) -> set[str]:
        return {manager_of(client) for client in self.living}


async def make_stuck_user(user: TestUser, *, serving: Server, doomed: Server) -> StuckUser:
    """Connect 20 clients: 12 to a node that the test is going to kill, 5 that answer no ping, and 3 healthy ones."""
    lost, silent, living = await asyncio.gather(
        connect_many(12, doomed, user),
        connect_many(5, serving, user, answers_pings=False),
        connect_many(3, serving, user),
    )
    await wait_until_ready([*lost, *silent, *living])
    return StuckUser(user, lost, silent, living)


async def told_to_try_again(server: Server, user: TestUser) -> ChatClient:
    """Connect a client while the database is away, and check that it is soon told to try again later."""
    began = time.monotonic()
    client = await connect(server, user)
    assert await client.closed(GIVEN_UP + MARGIN) == 4013
    assert time.monotonic() - began < GIVEN_UP + MARGIN
    told = client.closing
    assert told is not None
    assert (told["code"], told["reason"], told["reconnect"]) == (4013, "try_again", "after")
    assert 0 < told["retry_after"] <= 30
    return client


async def check_chat_works(client: ChatClient) -> None:
    """Send a message, and wait until it is acknowledged."""
    client_id = str(uuid4())
    await client.send("user_message", client_id=client_id, conversation=None, text="Still there?")
    await client.expect("ack", timeout=10, client_id=client_id)


async def wait_until_counted(database: Database, user: TestUser, clients: list[ChatClient], *, within: float) -> None:
    """Wait until the user's counted records are exactly those of these clients, and check that the clients are open."""
    wanted = {manager_of(client) for client in clients}
    await eventually(
        lambda: counted_ids(database, user) == wanted,
        within=within,
        why=f"{user.name} counts exactly the managers of {len(wanted)} clients",
    )
    assert all(client.is_open for client in clients)
