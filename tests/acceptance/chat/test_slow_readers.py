"""Clients that read slowly or not at all slow no other client, fill no memory, and get all messages once they read."""

import asyncio
from collections.abc import Callable

import psutil
import pytest

from tests.support.chat_steps import add_messages, send_message, wait_for_answer
from tests.support.clients import ChatClient, close_all, connect_many, connected, eventually, run
from tests.support.databases import Database
from tests.support.servers import Server

Serve = Callable[..., Server]
LARGE = "€" * 8192  # 24 KiB
MIB = 1024 * 1024
NARROW = (
    64 * 1024
)  # bytes of the client's receive buffer, so that the server soon notices that the client does not read

pytestmark = pytest.mark.parametrize("kind", ["daphne", "uvicorn"])


async def write(tab: ChatClient, conversation: str, number: int) -> None:
    for _ in range(number):
        await send_message(tab, LARGE, conversation)  # fails if the ack does not come in time
        await asyncio.sleep(0.02)


async def store_is_quiet(database: Database) -> int:
    """Wait until every question has its answer, and return the last sequence number."""
    waiting = "SELECT count(*) FROM chat_agentturn WHERE state IN ('queued', 'running')"
    await eventually(lambda: database.query(waiting) == [(0,)], within=60)
    ((end,),) = database.query("SELECT last_seq FROM chat_conversation")
    return int(end)


def test_a_tab_that_stops_reading_slows_nobody_and_gets_everything_when_it_goes_on(
    serve: Serve, database: Database, kind: str
) -> None:
    # Long timeouts: the client may not be closed for its unanswered pings or for a blocked send.
    server, user = serve(database, kind=kind, send_seconds=300, heartbeat_seconds=300), database.user("u1")
    process = psutil.Process(server.pid)

    async def main() -> None:
        async with connected(server, user, window=NARROW) as slow:
            quick = await connect_many(5, server, user)
            conversation = (await send_message(quick[0], "hello"))["conversation"]
            await slow.expect("message", conversation=conversation, seq=1)
            before = process.memory_info().rss
            slow.stop_reading()
            # 6 MB: more than the buffers of both ends, so the hub has to stop sending to the slow client.
            await asyncio.gather(*(write(tab, conversation, 50) for tab in quick))
            end = await store_is_quiet(database)
            assert process.memory_info().rss - before < 64 * MIB
            await quick[0].expect("message", conversation=conversation, seq=end, timeout=20)
            slow.go_on_reading()
            await slow.expect("message", conversation=conversation, seq=end, timeout=30)
            for client in (slow, quick[0]):
                assert [frame["seq"] for frame in client.of("message")] == list(range(1, end + 1))
            await close_all(quick)

    run(main())


def test_a_client_that_asks_for_much_and_reads_nothing_fills_no_memory(
    serve: Serve, database: Database, kind: str
) -> None:
    server, user = serve(database, kind=kind, send_seconds=300, heartbeat_seconds=300), database.user("u1")
    process = psutil.Process(server.pid)
    wishes = 6

    async def main() -> None:
        async with connected(server, user, window=NARROW) as greedy, connected(server, user) as other:
            conversation = (await send_message(other, "hello"))["conversation"]
            await wait_for_answer(other, conversation)
            add_messages(database, user, 3, 2000)
            database.query("UPDATE chat_message SET text = ? WHERE seq > 2", ["x" * 8192])  # 16 MB
            before = process.memory_info().rss
            greedy.stop_reading()
            for after in range(wishes):
                await greedy.send("resume", conversation=conversation, after_seq=after)
                await greedy.send("earlier", conversation=conversation, before_seq=2000)
            most = 0
            for _ in range(30):
                await asyncio.sleep(0.1)
                most = max(most, process.memory_info().rss)
            assert most - before < 32 * MIB
            await send_message(other, "still here")
            greedy.go_on_reading()
            for _ in range(wishes):
                await greedy.expect("resumed", conversation=conversation, timeout=60)
            await greedy.send("earlier", conversation=conversation, before_seq=2000)
            told = await greedy.expect("earlier", conversation=conversation, timeout=30)
            assert (told["from_seq"], told["title"]) == (1900, "hello")

    run(main())
