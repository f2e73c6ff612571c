"""A conversation over real sockets: stored, acknowledged, answered, delivered everywhere and resumed."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.support.chat_steps import (
    add_messages,
    check_event_order,
    read_with_new_client,
    resume,
    send_message,
    wait_for_answer,
)
from tests.support.clients import ChatClient, connect, connected, run
from tests.support.databases import Database, TestUser
from tests.support.servers import Server

Serve = Callable[..., Server]


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
def test_a_question_is_acknowledged_answered_and_found_again(serve: Serve, database: Database, kind: str) -> None:
    server, user = serve(database, kind=kind, node_name="web-1"), database.user("u1")

    async def main() -> None:
        async with connected(server, user) as client, connected(server, user) as second:
            ready = client.of("ready")[0]
            assert ready["user"] == "u1"
            assert ready["node"] == "web-1"
            assert (ready["live"], ready["soft_limit"], ready["heartbeat_seconds"]) == (1, 20, 25)
            ack = await send_message(client, "Where am I signed in?")
            conversation = ack["conversation"]
            assert ack["seq"] == 1
            done = await wait_for_answer(client, conversation)
            await check_event_order(client, conversation)
            assert done["success"] is True
            assert done["seq"] == 2
            assert "2 sessions open" in done["text"]
            for each in (client, second):
                asked = await each.expect("message", conversation=conversation, seq=1)
                assert (asked["role"], asked["text"]) == ("user", "Where am I signed in?")
                assert asked["client_id"] == ack["client_id"]
                replied = await each.expect("message", conversation=conversation, seq=2)
                assert (replied["role"], replied["text"]) == ("assistant", done["text"])
                assert "client_id" not in replied
        async with connected(server, user) as later:
            messages = await resume(later, conversation, 0)
            assert [message["seq"] for message in messages] == [1, 2]
            assert await resume(later, conversation, 2) == []

    run(main())


def test_a_resend_stores_nothing_and_gets_the_same_ack(server: Server, shared: Database, user: TestUser) -> None:
    async def main() -> None:
        async with connected(server, user) as first, connected(server, user) as second:
            client_id = str(uuid4())
            acks = await asyncio.gather(*(send_message(tab, "hello", None, client_id) for tab in (first, second) * 3))
            places = {(ack["conversation"], ack["seq"]) for ack in acks}
            assert len(places) == 1
            again = await send_message(first, "hello", acks[0]["conversation"], client_id)
            assert (again["conversation"], again["seq"]) in places
            await wait_for_answer(first, again["conversation"])
        async with connected(server, user) as later:
            messages = await resume(later, again["conversation"], 0)
            assert [(message["seq"], message["role"]) for message in messages] == [(1, "user"), (2, "assistant")]

    run(main())
    assert shared.query("SELECT count(*) FROM chat_conversation WHERE user_id = ?", (user.id,)) == [(1,)]
    assert shared.query("SELECT count(*) FROM chat_agentturn WHERE user_id = ?", (user.id,)) == [(1,)]


def test_two_tabs_that_write_at_once_see_the_same_in_the_same_order(server: Server, user: TestUser) -> None:
    async def main() -> None:
        async with connected(server, user) as first, connected(server, user) as second:
            conversation = (await send_message(first, "hello"))["conversation"]
            await wait_for_answer(first, conversation)

            async def write(tab: ChatClient, name: str) -> list[int]:
                return [(await send_message(tab, f"{name} {number}", conversation))["seq"] for number in range(3)]

            given = await asyncio.gather(write(first, "first"), write(second, "second"))
            assert all(seqs == sorted(seqs) for seqs in given)
            for _ in range(6):
                await wait_for_answer(first, conversation)
            everything = [
                (m["seq"], m["role"], m["text"]) for m in await read_with_new_client(server, user, conversation)
            ]
            assert [seq for seq, _, _ in everything] == list(range(1, 15))
            assert sum(role == "assistant" for _, role, _ in everything) == 7
            seen = [(m["seq"], m["role"], m["text"]) for m in second.of("message")]
            assert seen == everything

    run(main())


def test_a_closed_tab_loses_no_answer(server: Server, user: TestUser) -> None:
    async def main() -> None:
        async with connected(server, user) as client:
            conversation = (await send_message(client, "Where am I signed in?"))["conversation"]
            await client.send("user_message", client_id=str(uuid4()), conversation=conversation, text="hello")
        async with connected(server, user) as later:
            await later.send("resume", conversation=conversation, after_seq=0)
            found: dict[int, str] = {}
            for seq in range(1, 5):
                found[seq] = (await later.expect("message", seq=seq, timeout=10))["role"]
            assert sorted(found.values()) == ["assistant", "assistant", "user", "user"]

    run(main())


def test_a_client_that_comes_back_during_a_turn_is_sent_its_state(server: Server, user: TestUser) -> None:
    async def main() -> None:
        async with connected(server, user) as client:
            ack = await send_message(client, "What can you do?")
            await client.expect("agent_delta")
        async with connected(server, user) as later:
            await later.send("resume", conversation=ack["conversation"], after_seq=0)
            started = await later.expect("agent_started", conversation=ack["conversation"])
            done = await wait_for_answer(later, ack["conversation"])
            assert done["run"] == started["run"]
            assert "".join(frame["text"] for frame in later.of("agent_delta")) == done["text"]

    run(main())


def test_long_histories_are_resumed_whole_and_in_order(server: Server, shared: Database, user: TestUser) -> None:
    async def main() -> None:
        async with connected(server, user) as client:
            conversation = (await send_message(client, "hello"))["conversation"]
            await wait_for_answer(client, conversation)
            add_messages(shared, user, 3, 450)
            messages = await read_with_new_client(server, user, conversation)
            assert [message["seq"] for message in messages] == list(range(1, 451))
            assert len(await read_with_new_client(server, user, conversation, 440)) == 10
            # The socket had the first two live. It is sent each other one once, however often it resumes.
            for after in (440, 0):
                await client.send("resume", conversation=conversation, after_seq=after)
                assert (await client.expect("resumed", conversation=conversation))["last_seq"] == 450
                assert [message["seq"] for message in client.of("message")] == list(range(1, 451))

    run(main())


def test_another_users_conversation_looks_like_a_missing_one(server: Server, shared: Database, user: TestUser) -> None:
    async def main() -> None:
        async with connected(server, user) as mine, connected(server, shared.user("viewer")) as theirs:
            conversation = (await send_message(mine, "my secret"))["conversation"]
            await wait_for_answer(mine, conversation)
            answers: list[Any] = []
            for target in (conversation, str(uuid4())):
                client_id = str(uuid4())
                await theirs.send("user_message", client_id=client_id, conversation=target, text="hi")
                refused = await theirs.expect("error", client_id=client_id)
                await theirs.send("resume", conversation=target, after_seq=0)
                hidden = await theirs.expect("error")
                answers.append([(refused["code"], refused["message"]), (hidden["code"], hidden["message"])])
            assert answers[0] == answers[1]
            assert answers[0][0][0] == "not_found"
            assert not theirs.of("message")
            assert not theirs.of("agent_started")
            told = await send_message(theirs, "Search for secret")
            assert "nothing" in (await wait_for_answer(theirs, told["conversation"]))["text"]

    run(main())


def test_an_answer_survives_the_node_that_worked_on_it(serve: Serve, database: Database) -> None:
    quick = {"beat_seconds": 0.3, "lease_seconds": 2, "sweep_seconds": 0.5}
    first, user = serve(database, node_name="web-1", **quick), database.user("u1")
    second = serve(database, node_name="web-2", **quick)

    async def main() -> None:
        client = await connect(first, user)
        ack = await send_message(client, "What can you do?")
        await client.expect("agent_delta")
        await asyncio.to_thread(first.kill)
        async with connected(second, user) as later:
            await later.send("resume", conversation=ack["conversation"], after_seq=0)
            done = await later.expect("agent_completed", conversation=ack["conversation"], timeout=20)
            assert done["success"] is True
            assert [(message["seq"], message["role"]) for message in later.of("message")] == [
                (1, "user"),
                (2, "assistant"),
            ]

    run(main())
    assert database.query("SELECT attempt, retries, state FROM chat_agentturn") == [(2, 1, "completed")]


def test_an_answer_is_stopped_by_any_socket_of_its_user_and_by_nobody_else(
    server: Server, shared: Database, user: TestUser
) -> None:
    async def main() -> None:
        async with (
            connected(server, user) as asks,
            connected(server, user) as stops,
            connected(server, shared.user("lead")) as stranger,
        ):
            conversation = (await send_message(asks, "What can you do?"))["conversation"]
            run_id = (await stops.expect("agent_started", conversation=conversation))["run"]
            await stranger.send("cancel_turn", run=run_id)
            await stops.send("cancel_turn", run=run_id)
            done = await wait_for_answer(asks, conversation)
            assert done["success"] is False
            assert done["text"].endswith("Stopped, as you asked.")
            assert (await stranger.expect("error"))["code"] == "not_found"
            await stops.send("cancel_turn", run=run_id)  # the turn is over, so this changes nothing
            await stops.send("cancel_turn", run="that one")
            assert (await stops.expect("error"))["code"] == "bad_field"
            assert [m["text"] for m in await read_with_new_client(server, user, conversation, 1)] == [done["text"]]

    run(main())


def test_a_server_that_ends_after_a_chat_logs_no_error(serve: Serve, database: Database) -> None:
    """Each of the chat's threads has a connection, which nobody closes when the process ends."""
    server, user = serve(database, node_name="web-1"), database.user("u1")

    async def main() -> None:
        async with connected(server, user) as client:
            await wait_for_answer(client, (await send_message(client, "Where am I signed in?"))["conversation"])
        server.terminate()
        assert await server.ended() == 0

    run(main())
    assert "Traceback" not in server.output()
