"""A node of which a part hangs or ends says so, has its clients come back elsewhere, and ends itself."""

import asyncio
import json
import time
from typing import Any
from uuid import uuid4

import pytest

from tests.support.clients import ChatClient, connect, connect_many, eventually, run
from tests.support.databases import Database, TestUser
from tests.support.scenes import (
    Pace,
    Serve,
    check_chat_works,
    fenced_nodes,
    manager_of,
    record_of,
    start_together,
    wait_until_counted,
    wait_until_ready,
)
from tests.support.servers import Server, free_port

PACE = Pace(beat=0.5, lease=3.0)
HANGING = {"DJANGO_SETTINGS_MODULE": "tests.support.hanging_settings"}
SLACK = 3.0  # seconds, added to bounds of several seconds: each test runs two servers, beside other tests
NOTICED = PACE.lease + PACE.beat + SLACK  # seconds until a part that hangs is noticed
END = 6.0  # seconds of an orderly end
KINDS = pytest.mark.parametrize("kind", ["daphne", "uvicorn"])


def start_nodes(serve: Serve, database: Database, kind: str) -> tuple[Server, Server]:
    """Start web-1, of which the test makes a part hang, and web-2, which stays well."""
    nodes = (
        serve(database, start=False, kind=kind, env=HANGING, node_name="web-1", **PACE.settings()),
        serve(database, start=False, node_name="web-2", **PACE.settings()),
    )
    start_together(*nodes)
    return nodes


async def hang(server: Server, name: str) -> None:
    assert (await asyncio.to_thread(server.get, f"/hang/{name}/"))[0] == 204


async def says(server: Server, path: str) -> tuple[int, dict[str, Any]]:
    status, body = await asyncio.to_thread(server.get, path)
    return status, json.loads(body)


async def refused_at_once(server: Server, user: TestUser) -> None:
    began = time.monotonic()
    client = await connect(server, user)
    assert await client.closed() == 4013
    assert time.monotonic() - began < SLACK
    assert client.closing is not None
    assert (client.closing["reason"], client.closing["reconnect"]) == ("try_again", "after")


async def come_back(server: Server, user: TestUser, number: int) -> list[ChatClient]:
    back = await connect_many(number, server, user)
    await wait_until_ready(back)
    await asyncio.gather(*map(check_chat_works, back))
    return back


@pytest.mark.parametrize(
    ("kind", "thread", "part"),
    [
        ("daphne", "connections-writer", "writer"),
        ("uvicorn", "connections-writer", "writer"),
        ("daphne", "connections-beat", "beat"),
        ("uvicorn", "connections-lease", "lease thread"),
    ],
)
def test_a_node_with_a_hung_thread_says_so_moves_its_clients_and_ends_itself(
    kind: str, thread: str, part: str, serve: Serve, database: Database
) -> None:
    sick, well = start_nodes(serve, database, kind)
    user, newcomer = database.user("u1"), database.user("u2")

    async def main() -> None:
        clients = await connect_many(3, sick, user)
        ids = await wait_until_ready(clients)
        await hang(sick, thread)
        trigger = await connect(sick, newcomer)  # the writer hangs at its next item
        for client in clients:
            assert await client.closed(PACE.beat + NOTICED) == 4012
            assert client.closing is not None
            assert client.closing["reconnect"] == "after"
        for path in ("/healthz", "/readyz"):
            status, body = await says(sick, path)
            assert status == 503
            assert f"its {part} has not finished a round for " in body["why"]
        await refused_at_once(sick, newcomer)
        back = await come_back(well, user, 3)
        assert await sick.ended(PACE.lease + END + SLACK) == 1
        assert f"its {part} has not finished" in sick.output()
        await wait_until_counted(database, user, back, within=PACE.lost_freed)
        for each in ids:
            record = record_of(database, user, each)
            assert record.reason in {"node_draining", "node_lost"}
            if part == "beat":  # writer and lease live, so the ends are written in order
                assert part in record.evidence
        assert not trigger.is_open

    run(main())


@KINDS
def test_a_node_whose_event_loop_is_blocked_ends_itself(kind: str, serve: Serve, database: Database) -> None:
    sick, well = start_nodes(serve, database, kind)
    user = database.user("u1")

    async def main() -> None:
        clients = await connect_many(3, sick, user)
        await wait_until_ready(clients)
        await hang(sick, "loop")
        assert await sick.ended(NOTICED + PACE.lease + END + SLACK) == 1
        assert "its event loop has not finished a round" in sick.output()
        for client in clients:
            assert await client.closed()
        back = await come_back(well, user, 3)
        await wait_until_counted(database, user, back, within=PACE.lost_freed)

    run(main())


@KINDS
def test_a_node_whose_timer_was_ended_moves_its_clients_and_ends_at_once(
    kind: str, serve: Serve, database: Database
) -> None:
    sick, well = start_nodes(serve, database, kind)
    user = database.user("u1")

    async def main() -> None:
        clients = await connect_many(3, sick, user)
        ids = await wait_until_ready(clients)
        await hang(sick, "keepalive")
        for client in clients:
            assert await client.closed(PACE.beat + SLACK) == 4012
        assert await sick.ended(END + SLACK) == 1
        assert "its keepalive has ended" in sick.output()
        assert fenced_nodes(database) == []
        await come_back(well, user, 3)
        assert {record_of(database, user, each).reason for each in ids} == {"node_draining"}
        assert all("keepalive" in record_of(database, user, each).evidence for each in ids)

    run(main())


def bare(serve: Serve, database: Database, kind: str) -> Server:
    port = str(free_port())
    options = {"daphne": ["-b", "127.0.0.1", "-p"], "uvicorn": ["--host", "127.0.0.1", "--port"]}
    command = ["-m", kind, *options[kind], port, "tests.support.hanging_app:application"]
    return serve(database, port=int(port), command=command, env=HANGING, node_name=f"bare-{kind}", **PACE.settings())


@KINDS
def test_under_a_bare_server_a_node_that_cannot_work_refuses_until_it_works_again(
    kind: str, serve: Serve, database: Database
) -> None:
    server = bare(serve, database, kind)
    user = database.user("u1")

    async def main() -> None:
        client = await connect(server, user)
        await client.expect("ready")
        await hang(server, "connections-beat")
        assert await client.closed(NOTICED) == 4012
        assert (await says(server, "/healthz"))[0] == 503
        for _ in range(4):
            await asyncio.sleep(PACE.lease / 2)
            await refused_at_once(server, user)
        status, body = await says(server, "/healthz")
        assert (status, body["works"]) == (503, False)
        assert "its beat has not finished a round for " in body["why"]
        await hang(server, "free")
        await asyncio.to_thread(server.wait_until, "/readyz", within=PACE.lease)
        assert await says(server, "/healthz") == (200, {"works": True, "why": ""})
        await come_back(server, user, 1)

    run(main())


def test_a_node_that_was_stopped_for_three_leases_goes_on(serve: Serve, database: Database) -> None:
    server = serve(database, ready="/readyz", **PACE.settings())
    user = database.user("u1")

    async def main() -> None:
        client = await connect(server, user)
        await client.expect("ready")
        await asyncio.to_thread(server.freeze)
        await asyncio.sleep(3 * PACE.lease)
        server.thaw()
        await asyncio.to_thread(server.wait_until, "/readyz", within=PACE.beat + SLACK)
        await asyncio.sleep(2 * PACE.lease)
        assert server.running
        await check_chat_works(client)
        assert database.query("SELECT count(*) FROM connections_node") == [(1,)]
        assert "node_cannot_work" not in server.output()

    run(main())


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        ("daphne", "connections-writer", 0),
        ("daphne", "executor", 0),
        ("daphne", "chat-database", 0),
        ("daphne", "loop", 1),  # nothing could be drained
        ("uvicorn", "connections-beat", 0),
        ("uvicorn", "executor", 0),
        ("uvicorn", "chat-database", 0),
        ("uvicorn", "loop", 1),
    ],
)
def test_nothing_that_hangs_holds_up_the_exit(
    kind: str, name: str, code: int, serve: Serve, database: Database
) -> None:
    server = serve(database, ready="/readyz", kind=kind, env=HANGING, **PACE.settings())
    user = database.user("u1")

    async def main() -> None:
        client = await connect(server, user)
        await client.expect("ready")
        await hang(server, name)
        await client.send("user_message", client_id=str(uuid4()), conversation=None, text="This call hangs.")
        leaver = await connect(server, user) if name == "connections-writer" else None
        await asyncio.sleep(PACE.beat)
        began = time.monotonic()
        server.terminate()
        assert await server.ended(10 + SLACK) == code
        assert time.monotonic() - began < 10
        if name != "loop":
            assert await client.closed() == 4012
            [(retired,)] = database.query("SELECT retired_at IS NOT NULL FROM connections_node")
            assert retired
            assert record_of(database, user, manager_of(client)).reason == "node_draining"
        assert leaver is None or not leaver.is_open

    run(main())


@pytest.mark.parametrize("kind", ["daphne"])
def test_a_node_goes_on_when_a_part_goes_on_before_another_lease_is_over(
    kind: str, serve: Serve, database: Database
) -> None:
    sick, _ = start_nodes(serve, database, kind)
    user = database.user("u1")

    async def main() -> None:
        client = await connect(sick, user)
        await client.expect("ready")
        await hang(sick, "connections-beat")
        assert await client.closed(NOTICED) == 4012
        await hang(sick, "free")
        await eventually(lambda: sick.get("/readyz")[0] == 200, within=2 * PACE.beat + SLACK)
        await come_back(sick, user, 1)
        await asyncio.sleep(PACE.lease + END)
        assert sick.running
        assert (await says(sick, "/healthz"))[0] == 200

    run(main())
