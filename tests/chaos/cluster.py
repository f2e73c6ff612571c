"""The cluster of a chaos run: three nodes on PostgreSQL and Valkey, with a relay between the clients and each node, and
one between each node and PostgreSQL.
"""

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
DATABASE = "template"  # the database that PostgresTemplate fills; a chaos run needs no copy of it
DRAIN_SECONDS = 15.0
RESTART_SECONDS = 40.0  # longer than any outage of the database and a node's start together


class Node:
    def __init__(self, server: Server, client_relay: Relay, database_relay: Relay) -> None:
        self.server = server
        self.client_relay = client_relay
        self.database_relay = database_relay
        self.stopping = False  # a fault has killed or drained the node, so its end is no crash

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.client_relay.port}"


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
        """Start a node that has ended, and wait until it is ready. A node that finds no database at its start ends by
        itself; start it again, as a process supervisor does.
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
        with contextlib.suppress(Exception):  # the node has not ended in time: a judge reports the missing code
            drain.code = await node.server.ended(DRAIN_SECONDS)
        drain.ended = time.time()
        if drain.code is None:
            await asyncio.to_thread(node.server.kill)

    def note_crashes(self) -> None:
        for name, node in self.nodes.items():
            if not node.stopping and not node.server.running:
                self.history.crashes.append(f"{name} with {node.server.process.returncode}")


@contextlib.asynccontextmanager
async def running_cluster(history: History, folder: Path) -> AsyncIterator[Cluster]:
    """Start a cluster, wait until it is ready, and end all its processes with the block."""
    cluster = Cluster(history, folder)
    async with contextlib.AsyncExitStack() as stack:
        cluster.postgres = await asyncio.to_thread(Postgres, folder / "pg")
        stack.callback(cluster.postgres.stop)
        await asyncio.to_thread(cluster.postgres.start)
        cluster.valkey = Valkey(folder / "valkey", free_port())
        stack.callback(cluster.valkey.stop)
        await asyncio.to_thread(cluster.valkey.start)
        template = await asyncio.to_thread(PostgresTemplate, cluster.postgres.socket_folder)
        cluster.database = Database(template.url(DATABASE), template.users)
        for name in NODES:
            cluster.nodes[name] = await _node(name, cluster, stack)
        await asyncio.gather(*(cluster.restart(name) for name in NODES))
        yield cluster


async def _node(name: str, cluster: Cluster, stack: contextlib.AsyncExitStack) -> Node:
    database_relay = Relay(to_path(cluster.postgres.socket_path))
    await database_relay.start()
    stack.push_async_callback(database_relay.stop)
    server = Server(
        Database(f"postgres://postgres@127.0.0.1:{database_relay.port}/{DATABASE}"),
        cluster.folder / f"{name}.log",
        kind=KINDS[name],
        env={"CHANNEL_LAYER_URL": cluster.valkey.url},
        node_name=name,
        **bounds.settings(),
    )
    stack.callback(server.clean_up)
    client_relay = Relay(to_port(server.port))
    await client_relay.start()
    stack.push_async_callback(client_relay.stop)
    return Node(server, client_relay, database_relay)
