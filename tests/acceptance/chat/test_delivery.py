"""Each socket gets each message of a conversation once and in order, whatever its tab does at random, and whatever
happens to the bus and the nodes; an acknowledged message is stored, and stored once.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis.asyncio as redis
from channels_redis.core import RedisChannelLayer

from connections.bus import EVERYBODY
from tests.support.chat_steps import add_messages, read_with_new_client, send_message, wait_for_answer
from tests.support.clients import ChatClient, connected, eventually, run
from tests.support.databases import Database, TestUser
from tests.support.delivery_tabs import Tab, judge
from tests.support.scenes import start_together
from tests.support.servers import Server

Serve = Callable[..., Server]

OLD = 150  # messages in the conversation before the tabs come: more than a page
TWO_NODES_SECONDS, ONE_NODE_SECONDS = 10.0, 4.0  # of random actions
CATCH_UP = (
    12.0  # seconds in which a node finds what a lost bell announced, and starts if it was killed, on a busy machine
)
UNFINISHED = "SELECT id FROM chat_agentturn WHERE state IN ('queued', 'running')"


async def begin_conversation(server: Server, database: Database, user: TestUser) -> str:
    async with connected(server, user) as client:
        conversation = str((await send_message(client, "hello"))["conversation"])
        await wait_for_answer(client, conversation)
    add_messages(database, user, 3, OLD)
    return conversation


async def trouble_bus(url: str, user: TestUser, conversation: str, chance: random.Random) -> None:
    """Lose the bells of some seconds, hold them up, ring for messages again, old and new."""
    valkey, layer = redis.from_url(url), RedisChannelLayer(hosts=[url])
    try:
        while True:
            match chance.randrange(4):
                case 0:
                    await valkey.flushall()  # the layer forgets its nodes, which join again within 5 s
                case 1:
                    await valkey.client_pause(1000)
                case _:
                    ids = {"user": str(user.id), "conversation": conversation, "seq": chance.randint(1, OLD + 20)}
                    await layer.group_send(EVERYBODY, {"type": "bell", "topic": "conversation", "data": ids})
            await asyncio.sleep(chance.uniform(0.2, 0.8))
    finally:
        await layer.close_pools()
        await valkey.aclose()


async def live(tabs: list[Tab], seconds: float, *troubles: Any) -> None:
    """Let the tabs act at random, then finish what they have begun, while the troubles go on."""
    tasks = [asyncio.create_task(trouble) for trouble in troubles]
    until = asyncio.get_running_loop().time() + seconds
    await asyncio.gather(*(tab.live(until) for tab in tabs))
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    async with asyncio.timeout(30):
        await asyncio.gather(*(tab.finish() for tab in tabs))


async def say_the_last_word(tab: Tab, database: Database, bus: str | None) -> int:
    """Lose all bells of the next seconds, send a message, and cancel the turns, since a dozen answers take half a
    minute. Each node shows the last message to its sockets, found by its bell or without. Return its number.
    """
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(node, tab.user)) for node in tab.nodes]
        if bus is not None:
            async with redis.from_url(bus) as valkey:
                await valkey.flushall()
        await send_message(clients[0], "the last word", tab.conversation)
        for (run_id,) in database.query(UNFINISHED):
            await clients[0].send("cancel_turn", run=str(UUID(str(run_id))))
        await eventually(lambda: not database.query(UNFINISHED), within=20, why="every question has its answer")
        ((last,),) = database.query("SELECT max(seq) FROM chat_message")
        await asyncio.gather(*(client.expect("message", seq=last, timeout=CATCH_UP) for client in clients))
        return int(last)


async def check(tabs: list[Tab], database: Database, bus: str | None = None) -> None:
    """Check the rows, what each socket was sent, and that each tab that is connected has got the last message."""
    last = await say_the_last_word(tabs[0], database, bus)
    rows = database.query("SELECT seq, client_id, text FROM chat_message ORDER BY seq")
    assert [row[0] for row in rows] == list(range(1, last + 1))
    stored = {UUID(str(row[1])): row[0] for row in rows if row[0] > OLD and row[2].startswith("message ")}
    acknowledged = {UUID(client_id): seq for tab in tabs for client_id, seq in tab.acks.items()}
    assert stored == acknowledged
    for tab in tabs:
        if tab.socket is not None:
            await eventually(partial(tab.has, last), within=CATCH_UP, why=f"a tab that has {last}")
        for each in tab.sockets:
            judge(each, tab.conversation, OLD)
    sockets = [socket for tab in tabs for socket in tab.sockets]
    sent = sum(len(socket.client.of("message")) for socket in sockets)
    assert len(stored) > 5
    assert sent > 10 * len(stored), "the tabs did too little"
    found = await read_with_new_client(tabs[0].nodes[0], tabs[0].user, tabs[0].conversation)
    assert [message["seq"] for message in found] == list(range(1, last + 1))


def tabs_of(user: TestUser, conversation: str, nodes: list[Server], seed: int) -> list[Tab]:
    return [Tab(user, conversation, nodes, random.Random(f"{seed} {number}"), OLD) for number in range(4)]


@pytest.mark.parametrize("seed", [1])
def test_each_socket_gets_each_message_once_on_two_nodes(
    seed: int, serve: Serve, postgres_database: Database, bus: str
) -> None:
    database, user = postgres_database, postgres_database.user("u1")
    options = {"env": {"CHANNEL_LAYER_URL": bus}, "beat_seconds": 0.5, "lease_seconds": 3, "sweep_seconds": 0.5}
    one = serve(database, start=False, node_name="web-1", kind="daphne", **options)
    other = serve(database, start=False, node_name="web-2", kind="uvicorn", **options)
    start_together(one, other)
    chance = random.Random(seed)

    async def restart() -> None:
        """Kill the second node under its tabs, and start it again."""
        await asyncio.sleep(TWO_NODES_SECONDS / 3)
        await asyncio.to_thread(other.kill)
        await asyncio.to_thread(other.start)

    async def main() -> None:
        conversation = await begin_conversation(one, database, user)
        tabs = tabs_of(user, conversation, [one, other], seed)
        restarting = asyncio.create_task(restart())
        await live(tabs, TWO_NODES_SECONDS, trouble_bus(bus, user, conversation, chance))
        await restarting
        await check(tabs, database, bus)

    run(main())


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
def test_each_socket_gets_each_message_once_on_one_node_with_sqlite(
    kind: str, serve: Serve, database: Database
) -> None:
    server, user = serve(database, kind=kind, ready="/readyz"), database.user("u1")

    async def main() -> None:
        conversation = await begin_conversation(server, database, user)
        tabs = tabs_of(user, conversation, [server], 1)
        await live(tabs, ONE_NODE_SECONDS)
        await check(tabs, database)

    run(main())


async def killed_after_an_ack(node: Server, client: ChatClient, conversation: str) -> dict[str, int]:
    """Send ten messages without a pause, and kill the node at once after an ack. Return all acks that came."""
    sent = [str(uuid4()) for _ in range(10)]
    for client_id in sent:
        await client.send("user_message", client_id=client_id, conversation=conversation, text="kept")
    await client.expect("ack", client_id=sent[2])
    node.kill()
    await client.closed()
    acks = {frame["client_id"]: int(frame["seq"]) for frame in client.of("ack")}
    return {client_id: acks.get(client_id, 0) for client_id in sent}


def test_an_acknowledged_message_outlives_its_node_and_a_resend_stores_nothing(
    serve: Serve, postgres_database: Database
) -> None:
    database, user = postgres_database, postgres_database.user("u1")
    one = serve(database, start=False, node_name="web-1", kind="daphne")
    other = serve(database, start=False, node_name="web-2", kind="uvicorn")
    start_together(one, other)

    async def main() -> None:
        async with connected(other, user) as witness:
            conversation = (await send_message(witness, "hello"))["conversation"]
        for node, survivor in ((one, other), (other, one)):
            async with connected(node, user) as client:
                acks = await killed_after_an_ack(node, client, conversation)
            stored = {
                str(client_id): seq
                for client_id, seq in database.query("SELECT client_id, seq FROM chat_message WHERE role = 'user'")
            }
            assert all(stored[client_id] == seq for client_id, seq in acks.items() if seq)
            async with connected(survivor, user) as client:
                for client_id in acks:
                    ack = await send_message(client, "kept", conversation, client_id)
                    assert ack["seq"] == stored.get(client_id, ack["seq"])
            texts = "SELECT count(*) FROM chat_message WHERE text = 'kept'"
            assert database.query(texts) == [(10 if node is one else 20,)]
            if node is one:
                await asyncio.to_thread(one.start)

    run(main())
