"""Another client's transaction holds rows or a table of the chat: whoever is not touched notices nothing. Whoever is
touched is told within 4 s, and a message that is sent again after the lock's end is stored once.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.support.chat_steps import send_message, wait_for_answer
from tests.support.clients import ChatClient, connect_many, connected, run
from tests.support.databases import Database
from tests.support.scenes import GIVEN_UP, MARGIN
from tests.support.servers import Server

Serve = Callable[..., Server]

UNNOTICED = 1.0  # seconds for an ack on a busy machine; a caller who waits for the lock waits for four
TABS = 8  # of the touched user: more than there are threads for the chat's calls
ROWS = {
    "conversation": "SELECT 1 FROM chat_conversation WHERE user_id = %s FOR UPDATE",
    "user": "SELECT 1 FROM auth_user WHERE id = %s FOR UPDATE",
}


@contextmanager
def stranger(database: Database, statement: str, *parameters: object) -> Iterator[psycopg.Connection]:
    """Hold the locks of a statement in a transaction of another client, until the end of the block."""
    with psycopg.connect(database.url) as connection:
        connection.execute(statement.encode(), parameters)
        yield connection
        connection.rollback()


async def slowest_ack(client: ChatClient, conversation: str, count: int = 12) -> float:
    """Send messages one after the other, and return the longest time to an ack."""
    slowest = 0.0
    for number in range(count):
        began = time.monotonic()
        await send_message(client, f"message {number}", conversation)
        slowest = max(slowest, time.monotonic() - began)
        await asyncio.sleep(0.1)
    return slowest


async def type_into(tabs: list[ChatClient], conversation: str) -> dict[str, ChatClient]:
    """Each tab sends one message. Return the tabs by the message's client id."""
    sent = {str(uuid4()): tab for tab in tabs}
    for client_id, tab in sent.items():
        await tab.send("user_message", client_id=client_id, conversation=conversation, text=f"Typed: {client_id}")
    return sent


async def told_to_try_again(sent: dict[str, ChatClient]) -> None:
    for client_id, tab in sent.items():
        refused = await tab.expect("error", client_id=client_id, timeout=GIVEN_UP + 2 * MARGIN)
        assert refused["code"] == "try_again"


@pytest.mark.parametrize("what", ROWS)
def test_a_lock_on_one_users_rows_delays_no_other_user(what: str, serve: Serve, postgres_database: Database) -> None:
    database = postgres_database
    server, touched, other = serve(database, ready="/readyz"), database.user("u1"), database.user("u2")

    async def main() -> None:
        tabs = await connect_many(TABS, server, touched)
        async with connected(server, other) as bystander:
            locked = (await send_message(tabs[0], "hello"))["conversation"]
            free = (await send_message(bystander, "hello"))["conversation"]
            await asyncio.gather(wait_for_answer(tabs[0], locked), wait_for_answer(bystander, free))
            with stranger(database, ROWS[what], touched.id):
                began = time.monotonic()
                sent = await type_into(tabs, locked)
                assert await slowest_ack(bystander, free) < UNNOTICED
                await told_to_try_again(sent)
                assert time.monotonic() - began < GIVEN_UP + 2 * MARGIN
                await bystander.expect("agent_completed", conversation=free)
            for client_id, tab in sent.items():
                ack = await send_message(tab, f"Typed: {client_id}", locked, client_id)
                assert ack == await send_message(tab, f"Typed: {client_id}", locked, client_id)
        typed = database.query("SELECT client_id FROM chat_message WHERE text LIKE ? ORDER BY 1", ["Typed: %"])
        assert [row[0] for row in typed] == sorted(map(UUID, sent))

    run(main())
