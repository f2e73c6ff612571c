"""Three nodes on PostgreSQL and Valkey, with a relay before each node and one behind it, before PostgreSQL."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.chaos import bounds
from tests.chaos.history import Drain, History
from tests.chaos.relays import Relay, to_path, to_port
from tests.chaos.schedule import NODES
from tests.chaos.stores import Postgres, Valkey
from tests.support.databases import Database, PostgresTemplate, TestUser
from tests.support.servers import Server, free_port

KINDS = {"node-1": "daphne", "node-2": "daphne", "node-3": "uvicorn"}
DATABASE = "template"  # the one that PostgresTemplate fills; nobody needs a copy of it here
DRAIN_SECONDS = 15.0
RESTART_SECONDS = 40.0  # longer than any outage of the database, and a start


class Node:
    def __init__(self, server: Server, clients: Relay, database: Relay) -> None:
        self.server = server
        self.clients = clients
        self.database = database
        self.stopping = False  # it was sent a signal that ends it

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.clients.port}"


class Cluster:
    def __init__(self, history: History, folder: Path) -> None:
        self.history = history
        self.folder = folder
        self.nodes: dict[str, Node] = {}
        self.postgres: Postgres
        self.valkey: Valkey
        self.database: Database

    def users(self, count: int) -> list[TestUser]:
        return self.database.add_users([f"chaos{number}" for number in range(count)])

    async def restart(self, name: str) -> None:
        """Starts a node that has ended, and waits until it is ready. Without a database it ends by itself, and is
        started again, as whatever supervises it would do.
        """
        node = self.nodes[name]
        deadline = time.monotonic() + RESTART_SECONDS
        while True:
            try:
                await asyncio.to_thread(node.server.start, ready="/readyz")
            except AssertionError:
                if node.server.running or time.monotonic() > deadline:
                    raise
            else:
                break
        node.stopping = False

    async def kill(self, name: str) -> None:
        node = self.nodes[name]
        node.stopping = True
        await asyncio.to_thread(node.server.kill)

    async def drain(self, name: str) -> None:
        node = self.nodes[name]
        node.stopping = True
        drain = Drain(name, time.time())
        self.history.drains.append(drain)
        node.server.terminate()
        with contextlib.suppress(Exception):  # it has not ended: the judges say so
            drain.code = await node.server.ended(DRAIN_SECONDS)
        drain.ended = time.time()
        if drain.code is None:
            await asyncio.to_thread(node.server.kill)

    def note_crashes(self) -> None:
        for name, node in self.nodes.items():
            if not node.stopping and not node.server.running:
                self.history.crashes.append(f"{name} with {node.server.process.returncode}")


@contextlib.asynccontextmanager
async def cluster(history: History, folder: Path) -> AsyncIterator[Cluster]:
    """Started and ready; all of it ends with the block."""
    made = Cluster(history, folder)
    async with contextlib.AsyncExitStack() as stack:
        made.postgres = await asyncio.to_thread(Postgres, folder / "pg")
        stack.callback(made.postgres.stop)
        await asyncio.to_thread(made.postgres.start)
        made.valkey = Valkey(folder / "valkey", free_port())
        stack.callback(made.valkey.stop)
        await asyncio.to_thread(made.valkey.start)
        template = await asyncio.to_thread(PostgresTemplate, made.postgres.socket_folder)
        made.database = Database(template.url(DATABASE), template.users)
        for name in NODES:
            made.nodes[name] = await _node(name, made, stack)
        await asyncio.gather(*(made.restart(name) for name in NODES))
        yield made


async def _node(name: str, made: Cluster, stack: contextlib.AsyncExitStack) -> Node:
    behind = Relay(to_path(made.postgres.socket_path))
    await behind.start()
    stack.push_async_callback(behind.stop)
    server = Server(
        Database(f"postgres://postgres@127.0.0.1:{behind.port}/{DATABASE}"),
        made.folder / f"{name}.log",
        kind=KINDS[name],
        env={"CHANNEL_LAYER_URL": made.valkey.url},
        node_name=name,
        **bounds.settings(),
    )
    stack.callback(server.clean_up)
    before = Relay(to_port(server.port))
    await before.start()
    stack.push_async_callback(before.stop)
    return Node(server, before, behind)
