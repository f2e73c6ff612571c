"""Nodes that are killed, frozen, fenced, restarted or drained."""

import asyncio
import signal
import time

import pytest

from tests.support.clients import connect, connect_many, eventually, run
from tests.support.databases import Database
from tests.support.http_browser import HttpBrowser
from tests.support.processes import manage_json
from tests.support.scenes import (
    AUTOMATIC,
    MARGIN,
    Pace,
    Serve,
    check_chat_works,
    close_reasons,
    counted_ids,
    fenced_nodes,
    held_ids,
    manager_of,
    record_of,
    records,
    start_together,
    wait_until_counted,
    wait_until_ready,
)

KINDS = pytest.mark.parametrize("kind", ["daphne", "uvicorn"])


def test_after_a_restart_of_the_only_node_its_users_are_admitted_at_once(serve: Serve, database: Database) -> None:
    pace = Pace()
    server = serve(database, ready="/readyz", **pace.settings())
    eager, patient = database.user("u1"), database.user("u2")

    async def main() -> None:
        for user in (eager, patient):
            await wait_until_ready(await connect_many(20, server, user))
        old = {user.name: counted_ids(database, user) for user in (eager, patient)}
        server.kill()
        await asyncio.to_thread(server.start, ready="/readyz")
        restarted = time.monotonic()
        first = await connect(server, eager)
        await first.expect("ready", timeout=1)
        assert time.monotonic() - restarted < 1
        assert fenced_nodes(database) == []
        await eventually(
            lambda: not any(old[user.name] & held_ids(database, user) for user in (eager, patient)),
            within=pace.lost_freed - (time.monotonic() - restarted),
            why="the old node's records are free",
        )
        assert close_reasons(database, patient) == {"node_lost": 20}
        # The eager user was over the limit before the fence, so some records were evicted, and keep that reason.
        assert set(close_reasons(database, eager)) <= {"node_lost", "evicted"}
        assert close_reasons(database, eager)["node_lost"] >= 15
        assert all("fenced" in record.evidence for record in records(database, patient, "closed"))
        second = await connect(server, patient)
        await second.expect("ready", timeout=1, live=1)
        await check_chat_works(first)
        await wait_until_counted(database, eager, [first], within=MARGIN)

    run(main())


def test_a_node_frozen_past_its_lease_is_fenced_and_registers_again_when_it_wakes_up(
    serve: Serve, database: Database
) -> None:
    pace = AUTOMATIC
    steady, frozen = (serve(database, start=False, node_name=name, **pace.settings()) for name in ("web-1", "web-2"))
    start_together(steady, frozen)
    user = database.user("u1")

    async def main() -> None:
        there = await connect_many(4, frozen, user)
        here = await connect_many(2, steady, user)
        await wait_until_ready([*there, *here])
        await asyncio.sleep(pace.lease)
        frozen.freeze()
        await wait_until_counted(database, user, here, within=pace.lost_freed)
        assert close_reasons(database, user) == {"node_lost": 4}
        assert fenced_nodes(database) == ["web-2"]
        assert all(client.is_open for client in there)
        frozen.thaw()
        for client in there:
            assert await client.closed(pace.beat + 2 * MARGIN) == 4012
            told = client.closing
            assert told is not None
            assert (told["reason"], told["reconnect"]) == ("node_lost", "after")
            assert 0 < told["retry_after"] <= 30
        waits = [client.closing["retry_after"] for client in there if client.closing]
        assert len(set(waits)) == len(waits)
        await asyncio.to_thread(frozen.wait_until, "/readyz")
        back = await connect(frozen, user)
        await back.expect("ready")
        await check_chat_works(back)
        await wait_until_counted(database, user, [*here, back], within=MARGIN)
        listed = await asyncio.to_thread(manage_json, "list_nodes", db=database)
        nodes = [node for node in listed if node["name"] == "web-2"]
        assert [(node["fenced"], node["managers"]) for node in nodes] == [(False, 1), (True, 0)]
        assert nodes[0]["alive"]
        assert not nodes[1]["alive"]
        assert nodes[0]["pid"] == nodes[1]["pid"]

    run(main())


def test_closes_that_were_decided_while_a_node_slept_stand_when_it_wakes_up(serve: Serve, database: Database) -> None:
    """A client that was reset or closed by its user is closed for that reason, and not because its node was fenced."""
    pace = AUTOMATIC
    steady, frozen = (serve(database, start=False, node_name=name, **pace.settings()) for name in ("web-1", "web-2"))
    start_together(steady, frozen)
    reset, closed, bystander = (database.user(name) for name in ("u1", "u2", "u3"))

    async def main() -> None:
        witness, awake = await connect(steady, bystander), await connect(steady, closed)
        sleeping = {user.name: await connect_many(2, frozen, user) for user in (reset, closed, bystander)}
        await wait_until_ready([witness, awake, *(client for clients in sleeping.values() for client in clients)])
        await asyncio.sleep(pace.lease)
        frozen.freeze()
        gone, lead = manager_of(sleeping[closed.name][0]), HttpBrowser(steady, database.user("lead"))
        await asyncio.to_thread(lead.get, f"/console/users/{reset.id}/")
        await awake.send("close_sessions", managers=[gone])
        await eventually(lambda: record_of(database, closed, gone).state == "closing", within=MARGIN)
        form = {"reason": "a ticket", "confirm": reset.name}
        answer = await asyncio.to_thread(lead.post, f"/console/users/{reset.id}/reset/", **form)
        assert answer.status == 303, answer.text
        await eventually(lambda: {r.state for r in records(database, reset)} == {"closing"}, within=MARGIN)
        await wait_until_counted(database, bystander, [witness], within=pace.lost_freed)
        frozen.thaw()
        codes = {
            name: [await client.closed(pace.beat + 2 * MARGIN) for client in clients]
            for name, clients in sleeping.items()
        }
        assert codes == {reset.name: [4411] * 2, closed.name: [4412, 4012], bystander.name: [4012] * 2}
        assert close_reasons(database, reset) == {"reset": 2}
        assert close_reasons(database, closed) == {"closed_by_user": 1, "node_lost": 1}

    run(main())


@KINDS
def test_a_node_frozen_for_less_than_its_lease_loses_nobody(kind: str, serve: Serve, database: Database) -> None:
    pace = Pace(lease=3.0, heartbeat=1.0)
    steady, frozen = (
        serve(database, start=False, kind=kind, node_name=name, **pace.settings()) for name in ("web-1", "web-2")
    )
    start_together(steady, frozen)
    user = database.user("u1")

    async def main() -> None:
        clients = await connect_many(6, frozen, user)
        await wait_until_ready(clients)
        await asyncio.sleep(0.5)
        frozen.freeze()
        # Longer than heartbeat and pong; the node may not judge its clients by the time that it slept.
        await asyncio.sleep(0.75 * pace.lease)
        frozen.thaw()
        await asyncio.gather(*map(check_chat_works, clients))
        await asyncio.sleep(pace.silent_freed)  # after so long, a client that was judged by the sleep would be closed
        await wait_until_counted(database, user, clients, within=MARGIN)
        await asyncio.gather(*map(check_chat_works, clients))
        assert fenced_nodes(database) == []
        assert close_reasons(database, user) == {}

    run(main())


@KINDS
def test_a_node_that_is_terminated_moves_its_clients_and_ends_in_order(
    kind: str, serve: Serve, database: Database
) -> None:
    server = serve(database, ready="/readyz", kind=kind, **AUTOMATIC.settings())
    user = database.user("u1")

    async def main() -> None:
        clients = await connect_many(8, server, user)
        silent = await connect(server, user, answers_pings=False)
        deaf = await connect(server, user)
        await wait_until_ready([*clients, silent, deaf])
        deaf.stop_reading()
        ids = [manager_of(client) for client in [*clients, silent, deaf]]
        began = time.monotonic()
        server.terminate()
        for client in [*clients, silent]:
            assert await client.closed() == 4012
            told = client.closing
            assert told is not None
            assert (told["reason"], told["reconnect"]) == ("node_draining", "after")
            assert 0 < told["retry_after"] <= 30
        assert await server.ended(10 + MARGIN) == 0
        assert time.monotonic() - began < 10
        found = [record_of(database, user, each) for each in ids]
        assert [(record.state, record.reason) for record in found] == [("closed", "node_draining")] * 10
        assert all(record.evidence for record in found)

    run(main())
    [node] = database.query("SELECT retired_at IS NOT NULL, fenced_at IS NULL FROM connections_node")
    assert node == (1, 1)
    assert server.wait() != -signal.SIGTERM
