"""Abuse by a client meets a bound, gets a clear answer, and does not harm other clients."""

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any
from uuid import uuid4

import psutil
import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.chat_steps import send_message, wait_for_answer
from tests.support.clients import connect, connected, run
from tests.support.databases import Database, TestUser
from tests.support.servers import Server

Serve = Callable[..., Server]
SLOW = 60  # slow handshakes at once
BOUND = 1 + 4  # seconds for a request: one for the handshake (set below) and four for the admission
MARGIN = 3.0


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
def test_a_request_that_trickles_in_is_cut_and_holds_up_no_other(serve: Serve, database: Database, kind: str) -> None:
    server, user = serve(database, kind=kind, handshake_seconds=1), database.user("u1")
    head = b"GET /ws/chat/ HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"

    async def trickle(first: bytes) -> float:
        """Send a request byte by byte, and return after how many seconds the server cuts it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        began = time.monotonic()
        writer.write(first)
        gone = asyncio.ensure_future(reader.read())
        try:
            async with asyncio.timeout(BOUND + MARGIN):
                while not gone.done():
                    writer.write(b"X-Slow: yes\r\n" if first else b"")
                    await asyncio.wait({gone}, timeout=0.3)
        finally:
            gone.cancel()
            writer.transport.abort()
        return time.monotonic() - began

    async def main() -> None:
        async with connected(server, user) as early:
            slow = [asyncio.ensure_future(trickle(head if n % 2 else b"")) for n in range(SLOW)]
            await asyncio.sleep(0.5)
            async with connected(server, user) as client:
                await wait_for_answer(client, (await send_message(client, "hello"))["conversation"])
                took = await asyncio.gather(*slow)
                assert min(took) > BOUND - 1.5
                assert early.is_open
                assert client.is_open
                await send_message(client, "still here")

    run(main())


def test_json_as_deep_as_a_frame_allows_is_answered(server: Server, user: TestUser) -> None:
    async def main() -> None:
        async with connected(server, user) as client:
            for deep in ("[" * 60_000, "[" * 30_000 + "]" * 30_000, '{"a":' * 10_000 + "1" + "}" * 10_000):
                await client.socket.send(deep)
                assert (await client.expect("error"))["code"] in ("bad_json", "bad_frame")
            await client.send("user_message", client_id=str(uuid4()), conversation=None, text=[[[["deep"]]]])
            assert (await client.expect("error"))["code"] == "bad_field"
            await send_message(client, "still here")

    run(main())


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
def test_a_flood_at_a_busy_handler_is_cut_and_fills_no_memory(serve: Serve, database: Database, kind: str) -> None:
    server, user = serve(database, kind=kind), database.user("u1")
    frame = json.dumps({"type": "user_message", "client_id": str(uuid4()), "conversation": None, "text": "x" * 8000})
    padded = frame + " " * (64 * 1024 - len(frame))
    process = psutil.Process(server.pid)

    async def main() -> None:
        client = await connect(server, user)
        await client.expect("ready")
        before = process.memory_info().rss
        with closing(sqlite3.connect(database.url.removeprefix("sqlite:///"), isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")  # the chat's handler waits for this lock
            most = before
            for _ in range(2000):  # 125 MiB
                try:
                    await asyncio.wait_for(client.socket.send(padded), 1)
                except (ConnectionClosed, TimeoutError):
                    break
                most = max(most, process.memory_info().rss)
            writer.execute("ROLLBACK")
        # The bound on frames in a second or the bound on waiting bytes, whichever is met first.
        code = await client.closed(15)
        assert client.closing is not None
        assert (code, client.closing["reason"]) in {(4400, "protocol_abuse"), (4408, "stuck")}
        assert most - before < 48 * 1024 * 1024
        async with connected(server, user) as other:
            await send_message(other, "still here")

    run(main())


def test_a_conversation_above_the_limit_is_refused_and_its_message_can_be_sent_later(
    server: Server, shared: Database, user: TestUser
) -> None:
    shared.query(
        """
        INSERT INTO chat_conversation (id, user_id, title, last_seq, created_at, updated_at)
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
        SELECT lower(hex(randomblob(16))), ?, 'old', 0, '2026-01-01', '2026-01-01' FROM n
        """,
        (user.id,),
    )

    async def main() -> None:
        async with connected(server, user) as client:
            sent: dict[str, Any] = {"client_id": str(uuid4()), "conversation": None, "text": "one more"}
            await client.send("user_message", **sent)
            error = await client.expect("error", client_id=sent["client_id"])
            assert error["code"] == "too_many_conversations"
            assert "1000" in error["message"]
            shared.query("DELETE FROM chat_conversation WHERE user_id = ?", (user.id,))
            await client.send("user_message", **sent)
            await client.expect("ack", client_id=sent["client_id"])

    run(main())
