"""Bad frames get a clear answer and the socket stays open; abuse closes it; users can list and end their sessions."""

import asyncio
import json
from collections.abc import Callable
from uuid import uuid4

import pytest

from tests.support.chat_steps import send_message, wait_for_answer
from tests.support.clients import close_all, connect, connect_many, connected, eventually, run
from tests.support.databases import Database, TestUser
from tests.support.processes import manage_json
from tests.support.servers import Server

Serve = Callable[..., Server]

BAD: list[tuple[str | bytes, str]] = [
    ("{", "bad_json"),
    ("NaN", "bad_json"),
    ("", "bad_json"),
    ("[" * 60_000, "bad_json"),
    ('{"type":' * 8_000, "bad_json"),
    ("[]", "bad_frame"),
    ('"user_message"', "bad_frame"),
    ("{}", "bad_frame"),
    ('{"type": 7}', "bad_frame"),
    ('{"type": "closing"}', "unknown_type"),
    ('{"type": "user_message"}', "bad_field"),
    (b"\x00\x01", "binary"),
]


def test_bad_frames_are_answered_and_change_nothing(server: Server, shared: Database, user: TestUser) -> None:
    async def main() -> None:
        async with connected(server, user) as client:
            for sent, code in BAD:
                await client.socket.send(sent)
                error = await client.expect("error")
                assert error["code"] == code, sent[:50]
                assert error["message"]
            mine, good = str(uuid4()), {"client_id": str(uuid4()), "conversation": None, "text": "hi"}
            for wrong in (
                {"client_id": "1"}, {"client_id": 1}, {"client_id": None}, {"conversation": "x"}, {"conversation": 5},
                {"text": ""}, {"text": "x" * 8193}, {"text": None}, {"text": ["x"]}, {"text": "a\0b"},
                {"text": "\ud800"},
            ):  # fmt: skip
                await client.socket.send(json.dumps({"type": "user_message"} | good | {"client_id": mine} | wrong))
                error = await client.expect("error")
                assert error["code"] == "bad_field"
                assert error.get("client_id") == (None if "client_id" in wrong else mine)
            for wrong_resume in ({}, {"conversation": mine}, {"conversation": mine, "after_seq": -1},
                                 {"conversation": mine, "after_seq": True}, {"conversation": mine, "after_seq": 10**30},
                                 {"conversation": None, "after_seq": 0}):  # fmt: skip
                await client.send("resume", **wrong_resume)
                assert (await client.expect("error"))["code"] == "bad_field"
            for managers in (None, "all", [], [1], ["x"], [mine] * 101):
                await client.send("close_sessions", managers=managers)
                assert (await client.expect("error"))["code"] == "bad_field"
            await client.send("pong", nonce="not one of yours")
            ack = await send_message(client, "x" * 8192)
            await wait_for_answer(client, ack["conversation"])
            await client.expect_none("error", during=0.1)

    run(main())
    stored = "SELECT count(*) FROM chat_message m JOIN chat_conversation c ON c.id = conversation_id WHERE user_id = ?"
    assert shared.query(stored, (user.id,)) == [(2,)]


@pytest.mark.parametrize(("size", "code"), [(64 * 1024, None), (64 * 1024 + 1, 4009)])
def test_a_frame_above_64_kib_closes_the_socket(server: Server, user: TestUser, size: int, code: int | None) -> None:
    async def main() -> None:
        client = await connect(server, user)
        await client.expect("ready")
        for sent in ("x" * size, b"x" * size, "é" * (size // 2) + "x" * (size % 2)):
            if code is not None:
                client = await connect(server, user)
                await client.expect("ready")
            await client.socket.send(sent)
            if code is None:
                assert (await client.expect("error"))["code"] in ("bad_json", "binary")
            else:
                assert await client.closed() == code
                assert client.closing is not None
                assert client.closing["reason"] == "too_big"
                assert client.closing["reconnect"] == "never"

    run(main())


def test_more_than_50_frames_in_a_second_close_the_socket(server: Server, shared: Database, user: TestUser) -> None:
    frame = json.dumps({"type": "list_sessions"})

    async def main() -> None:
        async with connected(server, user) as client:
            for _ in range(2):
                await asyncio.gather(*(client.socket.send(frame) for _ in range(50)))
                await eventually(lambda: len(client.of("sessions")) % 50 == 0 and client.of("sessions"))
                await asyncio.sleep(1.1)  # until the second in which the frames were counted is over
            assert client.is_open
            await asyncio.gather(*(client.socket.send(frame) for _ in range(60)))
            assert await client.closed() == 4400
            assert client.closing is not None
            assert client.closing["reason"] == "protocol_abuse"

    run(main())
    closed = manage_json("list_managers", "--user", user.name, "--state", "closed", db=shared)
    assert [record["close_reason"] for record in closed] == ["protocol_abuse"]


def check_the_user_is_named_as_the_closer(server: Server, shared: Database, user: TestUser) -> None:
    """In the records, in the audit log, and on the user's page in the console."""
    closed = manage_json("list_managers", "--user", user.name, "--state", "closed", db=shared)
    assert {record["close_reason"] for record in closed} == {"closed_by_user"}
    audited = shared.query("SELECT actor_kind, actor FROM connections_auditentry WHERE action = 'close_own'")
    assert set(audited) == {("user", user.name)}
    status, page = server.get(f"/console/users/{user.id}/", cookie=shared.user("support").cookie)
    assert status == 200
    timeline = page.split('id="timeline-title"')[1]
    assert "Close own" in timeline
    assert f"{user.name} (user)" in timeline


def test_sessions_are_listed_and_ended_by_their_user(server: Server, shared: Database, user: TestUser) -> None:
    async def main() -> None:
        stranger = await connect(server, shared.user("viewer"))
        foreign = (await stranger.expect("ready"))["manager"]
        clients = await connect_many(4, server, user)
        ids = [(await client.expect("ready"))["manager"] for client in clients]
        await clients[0].send("list_sessions")
        listed = (await clients[0].expect("sessions"))["managers"]
        assert {session["id"] for session in listed} == set(ids)
        assert [session["id"] for session in listed if session["current"]] == [ids[0]]
        assert set(listed[0]) == {"id", "current", "opened_at", "last_active_at", "ip", "user_agent"}

        await clients[0].send("close_sessions", managers=[ids[1], foreign])
        assert {session["id"] for session in (await clients[0].expect("sessions"))["managers"]} == {ids[0], *ids[2:]}
        assert await clients[1].closed() == 4412
        assert clients[1].closing is not None
        assert (clients[1].closing["reason"], clients[1].closing["reconnect"]) == ("closed_by_user", "never")

        ack = await send_message(clients[0], "Please sign out the others.")
        done = await wait_for_answer(clients[0], ack["conversation"])
        assert "2 other sessions signed out" in done["text"]
        assert [await client.closed() for client in clients[2:]] == [4412, 4412]

        await clients[0].send("close_sessions", managers="others")
        assert len((await clients[0].expect("sessions"))["managers"]) == 1
        assert clients[0].is_open
        assert stranger.is_open
        await clients[0].send("close_sessions", managers=[ids[0]])
        assert await clients[0].closed() == 4412
        await close_all([stranger])

    run(main())
    check_the_user_is_named_as_the_closer(server, shared, user)


def test_a_user_near_or_above_the_limit_gets_a_notice(serve: Serve, database: Database) -> None:
    server, user = serve(database, soft_limit=5, burst=5), database.user("u1")

    async def main() -> None:
        told: list[tuple[str, int, int] | None] = []
        clients = []
        for _ in range(6):
            client = await connect(server, user)
            clients.append(client)
            ready = await client.expect("ready")
            assert ready["live"] == len(clients)
            await client.send("list_sessions")
            await client.expect("sessions")
            notices = client.of("notice")[:1]
            told += [(n["kind"], n["live"], n["soft_limit"]) for n in notices] or [None]
        assert told == [None, None, None, ("near_limit", 4, 5), ("near_limit", 5, 5), ("over_limit", 6, 5)]
        await close_all(clients)

    run(main())
