"""A user's tabs on several nodes get the same messages and agent events; without a bus, the messages come later."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.chat_steps import check_event_order, resume, send_message, wait_for_answer
from tests.support.clients import ChatClient, connect, connected, run
from tests.support.databases import Database, TestUser
from tests.support.servers import Server

Serve = Callable[..., Server]
Pair = tuple[Server, Server]
LOOK = 6.0  # seconds in which a node catches up with a lost bell, on a busy machine


@pytest.fixture(scope="module")
def pair(bus: str, shared: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two nodes with one bus."""
    folder = tmp_path_factory.mktemp("log")
    env = {"CHANNEL_LAYER_URL": bus}
    servers = [
        Server(shared, folder / f"{name}.log", node_name=name, kind=kind, env=env)
        for name, kind in (("web-1", "daphne"), ("web-2", "uvicorn"))
    ]
    try:
        one, other = (server.start(ready="/readyz") for server in servers)
        yield one, other
    finally:
        for server in servers:
            server.clean_up()


def events(client: ChatClient, conversation: str) -> list[dict[str, Any]]:
    kinds = ("agent_", "tool_")
    return [f for f in client.frames if f["type"].startswith(kinds) and f["conversation"] == conversation]


def test_the_agents_work_is_seen_on_every_node(pair: Pair, user: TestUser) -> None:
    one, other = pair

    async def main() -> None:
        async with connected(one, user) as asks, connected(other, user) as sees, connected(other, user) as also:
            conversation = (await send_message(asks, "Where am I signed in?"))["conversation"]
            done = await wait_for_answer(asks, conversation)
            for client in (sees, also):
                assert await wait_for_answer(client, conversation) == done
                await check_event_order(client, conversation)
                assert events(client, conversation) == events(asks, conversation)
                await client.expect("message", conversation=conversation, seq=2, text=done["text"])

    run(main())


def test_a_client_that_connects_to_another_node_during_a_turn_is_sent_its_state(pair: Pair, user: TestUser) -> None:
    one, other = pair

    async def main() -> None:
        async with connected(one, user) as asks:
            conversation = (await send_message(asks, "What can you do?"))["conversation"]
            await asks.expect("agent_delta")
            async with connected(other, user) as late, connected(other, user) as idle:
                await resume(late, conversation, 0)
                done = await wait_for_answer(late, conversation)
                shown = events(late, conversation)
                assert shown[0]["type"] == "agent_started"
                assert shown[-1] == done
                pieces = [event["text"] for event in shown if event["type"] == "agent_delta"]
                assert "".join(pieces) == done["text"]
                assert len(pieces) < sum(event["type"] == "agent_delta" for event in events(asks, conversation))
                assert [event["type"] for event in events(idle, conversation)][:1] in ([], ["agent_started"])
        assert one.output().count("Traceback") == other.output().count("Traceback") == 0

    run(main())


def test_a_turn_is_stopped_from_another_node(pair: Pair, user: TestUser) -> None:
    one, other = pair

    async def main() -> None:
        async with connected(one, user) as asks, connected(other, user) as stops:
            conversation = (await send_message(asks, "What can you do?"))["conversation"]
            started = await stops.expect("agent_started", conversation=conversation)
            await stops.send("cancel_turn", run=started["run"])
            done = await wait_for_answer(stops, conversation)
            assert done["success"] is False
            assert done["text"].endswith("Stopped, as you asked.")

    run(main())


def test_without_a_bus_every_node_shows_the_messages_a_look_later(serve: Serve, database: Database) -> None:
    one, user = serve(database, node_name="web-1", ready="/readyz"), database.user("u1")
    other = serve(database, node_name="web-2", ready="/readyz")

    async def main() -> None:
        async with connected(one, user) as asks, connected(other, user) as sees:
            # Longer than a node takes to catch up, so the sockets are older than each message below.
            await asyncio.sleep(2.5)
            conversation = (await send_message(asks, "Hello from the other side"))["conversation"]
            await wait_for_answer(asks, conversation)
            await send_message(asks, "Are you still there?", conversation)
            await wait_for_answer(asks, conversation)
            await sees.expect("message", conversation=conversation, seq=4, timeout=LOOK)
            asked = [frame["seq"] for frame in sees.of("message")]
            assert asked == sorted(set(asked))
            await send_message(asks, "And now?", conversation)
            await wait_for_answer(asks, conversation)
            await sees.expect("message", conversation=conversation, seq=6, timeout=LOOK)
            assert [frame["seq"] for frame in sees.of("message")][-3:] == [4, 5, 6]

    run(main())


def test_an_answer_that_begins_again_on_another_node_is_shown_from_its_beginning(
    serve: Serve, database: Database, bus: str
) -> None:
    env, quick = {"CHANNEL_LAYER_URL": bus}, {"beat_seconds": 0.3, "lease_seconds": 2, "sweep_seconds": 0.5}
    user = database.user("u1")
    killed, one, other = (
        serve(database, node_name=name, ready="/readyz", env=env, **quick) for name in ("web-1", "web-2", "web-3")
    )

    async def main() -> None:
        async with connected(one, user) as sees, connected(other, user) as also:
            asks = await connect(killed, user)
            conversation = (await send_message(asks, "What can you do?"))["conversation"]
            for client in (sees, also):
                await client.expect("agent_delta", conversation=conversation)
            await asyncio.to_thread(killed.kill)
            for client in (sees, also):
                done = await client.expect("agent_completed", conversation=conversation, timeout=20)
                assert done["success"] is True
                shown = events(client, conversation)
                begins = [place for place, event in enumerate(shown) if event["type"] == "agent_started"]
                assert len(begins) == 2
                again = [event["text"] for event in shown[begins[1] :] if event["type"] == "agent_delta"]
                assert "".join(again) == done["text"]
                assert len({event["run"] for event in shown}) == 1
                await client.expect("message", conversation=conversation, seq=2, text=done["text"])
                assert len(client.of("message")) == 2

    run(main())
