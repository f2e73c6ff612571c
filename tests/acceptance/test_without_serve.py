"""The project of tests/dropin under runserver, plain Daphne, and uvicorn with two workers: each process is a node."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import ChatClient, connect, eventually, run
from tests.support.databases import Database, TestUser
from tests.support.http_browser import HttpBrowser
from tests.support.scenes import Pace, Serve, close_reasons, held_ids, records, start_together
from tests.support.servers import Server, free_port

PACE = Pace()
APPLICATION = "tests.dropin.asgi:application"
# Seconds until the records of a dead process are free, also if the witness has just started.
FENCED = PACE.lost_freed + PACE.lease


def bare_servers(serve: Serve, database: Database) -> dict[str, Server]:
    ports = {name: str(free_port()) for name in ("runserver", "daphne", "uvicorn")}
    here = "127.0.0.1"
    commands = {
        "runserver": ["manage.py", "runserver", "--noreload", f"{here}:{ports['runserver']}"],
        "daphne": ["-m", "daphne", "-b", here, "-p", ports["daphne"], APPLICATION],
        "uvicorn": ["-m", "uvicorn", "--host", here, "--port", ports["uvicorn"], "--workers", "2", APPLICATION],
    }
    settings = PACE.settings(soft_limit=50)
    env = {"PYTHONPATH": str(Path(__file__).parents[2])}
    return {
        name: serve(database, start=False, port=int(ports[name]), command=command, env=env, **settings)
        for name, command in commands.items()
    }


def nodes(database: Database) -> dict[str, int]:
    """How many processes have registered as nodes, by name."""
    return dict(database.query("SELECT name, pid FROM connections_node WHERE serves AND fenced_at IS NULL"))


async def opened(server: Server, database: Database, user: TestUser, **options: Any) -> tuple[ChatClient, str]:
    """Connect a client to a server, and return it with the name of its node."""
    before = {record.id for record in records(database, user)}
    client = await connect(server, user, path="/orders/", **options)
    mine = await eventually(lambda: [r for r in records(database, user) if r.id not in before])
    return client, mine[0].node


async def one_on_each_node(
    servers: dict[str, Server], database: Database, user: TestUser
) -> tuple[dict[str, ChatClient], str]:
    """Connect clients until each process has one; return them by the names of the nodes, and the name of Daphne's."""
    opening = [await opened(servers[name], database, user) for name in ("runserver", "daphne")]
    clients = {node: client for client, node in opening}
    daphne_node = list(clients)[1]
    for _ in range(40):  # the kernel chooses which worker takes a connection
        client, node = await opened(servers["uvicorn"], database, user)
        if node in clients:
            await client.close()
        clients.setdefault(node, client)
        if len(clients) == 4:
            break
    return clients, daphne_node


async def recover_from_the_console(server: Server, database: Database, user: TestUser) -> None:
    support = HttpBrowser(server, database.user("support"))
    await asyncio.to_thread(support.get, f"/support/users/{user.id}/")
    answer = await asyncio.to_thread(support.post, f"/support/users/{user.id}/recover/", reason="a ticket")
    assert answer.status == 303, answer.text[-2000:]


def test_each_process_is_a_node_from_its_first_socket_on(serve: Serve, dropin_database: Database) -> None:
    database, user = dropin_database, dropin_database.user("u1")
    servers = bare_servers(serve, database)
    start_together(*servers.values(), ready="/healthz")
    assert nodes(database) == {}, "nobody has opened a socket yet"
    assert servers["uvicorn"].get("/readyz")[0] == 503

    async def main() -> None:
        clients, daphne_node = await one_on_each_node(servers, database, user)
        pids = nodes(database)
        assert pids.keys() == clients.keys()
        assert {pids[name] for name in clients} >= {servers["runserver"].pid, servers["daphne"].pid}
        silent, _ = await opened(servers["uvicorn"], database, user, answers_pings=False)

        # The processes have no bus, so a roll call reaches the clients of the others through the database.
        await recover_from_the_console(servers["runserver"], database, user)
        assert await silent.closed(PACE.back_at_limit + 2) == 4408
        assert all(client.of("ping") and client.is_open for client in clients.values())
        await eventually(
            lambda: len(held_ids(database, user)) == 4 and close_reasons(database, user)["unresponsive"] == 1
        )

        # One worker is killed, and Daphne, which can't drain, gets SIGTERM. A fence frees the records of both.
        worker = next(name for name in clients if pids[name] not in (servers["runserver"].pid, servers["daphne"].pid))
        os.kill(pids[worker], signal.SIGKILL)
        servers["daphne"].terminate()
        gone = {clients.pop(worker), clients.pop(daphne_node)}
        await eventually(lambda: len(held_ids(database, user)) == 2, within=FENCED)
        ended = {(r.node, r.reason) for r in records(database, user, "closed")}
        assert (worker, "node_lost") in ended
        # It is chance whether Daphne cancels its applications before it ends, and whether they can record that.
        assert ended & {(daphne_node, "node_lost"), (daphne_node, "node_draining")}
        assert all([await client.closed() for client in gone])
        assert all(client.is_open for client in clients.values())

    run(main())


@pytest.mark.parametrize(("kind", "code"), [("uvicorn", 1012), ("daphne", 1006)])
def test_a_server_that_stops_is_recorded_as_the_servers_doing(
    kind: str, code: int, serve: Serve, dropin_database: Database
) -> None:
    """It can't drain, so its clients get no frame; but whoever asks is told that no client and no handler failed."""
    database, user = dropin_database, dropin_database.user("u1")
    server = bare_servers(serve, database)[kind]
    server.start(ready="/healthz")

    async def main() -> None:
        clients = [(await opened(server, database, user))[0] for _ in range(5)]
        leaving, _ = await opened(server, database, user)
        await leaving.socket.close(1012)
        await eventually(lambda: close_reasons(database, user) == {"client_gone": 1}, why="the client's own 1012")
        # Daphne cancels nobody if a handshake was less than a second ago.
        await asyncio.sleep(1.5)
        server.terminate()
        assert {await client.closed() for client in clients} == {code}
        await server.ended()
        ended = records(database, user, "closed")
        assert [end.evidence for end in ended if end.reason == "client_gone"] == ["the connection ended with 1012"]
        stopped = [end.evidence for end in ended if end.reason == "node_draining"]
        assert len(stopped) == len(clients), ended
        assert all(evidence.startswith("the server stopped") for evidence in stopped)

    run(main())
