"""A node drains while clients connect and chat: no record stays held, and no acknowledged message is lost."""

import asyncio
from uuid import uuid4

import pytest
from websockets.exceptions import ConnectionClosed, WebSocketException

from tests.support.chat_steps import read_with_new_client
from tests.support.clients import ChatClient, connect, run
from tests.support.databases import Database
from tests.support.processes import manage_json
from tests.support.scenes import AUTOMATIC, MARGIN, Serve, check_chat_works, close_reasons, held_ids, start_together

KINDS = pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
DRAINED = 10.0  # seconds from the signal to the end of the process
MESSAGES = 30


@KINDS
def test_a_drain_during_handshakes_leaves_no_slot_taken(kind: str, serve: Serve, database: Database) -> None:
    server = serve(database, ready="/readyz", kind=kind, **AUTOMATIC.settings(connect_rate="1000/1"))
    user = database.user("u1")

    async def arrives(number: int) -> int | None:
        """Connect `number` hundredths of a second after the first; return the close code, None without a socket."""
        await asyncio.sleep(number / 100)
        try:
            client = await connect(server, user)
        except (OSError, WebSocketException):
            return None
        return await client.closed(DRAINED)

    async def main() -> None:
        arriving = [asyncio.create_task(arrives(number)) for number in range(20)]
        await asyncio.sleep(0.1)
        server.terminate()
        assert await server.ended(DRAINED + MARGIN) == 0
        codes = await asyncio.gather(*arriving)
        assert 4012 in codes, codes
        # 1006: the client came when the server answered no client any more.
        assert set(codes) <= {4012, 1006, None}, codes

    run(main())
    assert held_ids(database, user) == set()
    assert set(close_reasons(database, user)) <= {"node_draining", "client_gone", "client_closed"}
    assert database.query("SELECT retired_at IS NOT NULL, fenced_at IS NULL FROM connections_node") == [(1, 1)]


async def sent(client: ChatClient, conversation: str | None, client_id: str, text: str) -> str | None:
    """Send a message and return its conversation from the ack, or None if the socket ends first."""
    try:
        await client.send("user_message", client_id=client_id, conversation=conversation, text=text)
        ack = await client.expect("ack", client_id=client_id)
    except (ConnectionClosed, AssertionError):
        assert await client.closed() == 4012
        return None
    return str(ack["conversation"])


@KINDS
def test_a_client_that_chats_during_a_drain_goes_on_elsewhere_and_loses_nothing(
    kind: str, serve: Serve, database: Database
) -> None:
    one, other = (
        serve(database, start=False, kind=kind, node_name=name, **AUTOMATIC.settings()) for name in ("web-1", "web-2")
    )
    start_together(one, other)
    user = database.user("u1")

    async def main() -> None:
        client, moves, conversation = await connect(one, user), 0, None
        texts: list[str] = []
        draining: asyncio.Task[object] | None = None
        while len(texts) < MESSAGES or not moves:
            assert len(texts) < 10 * MESSAGES, "it was never told to move"
            if len(texts) == MESSAGES // 3:
                draining = asyncio.create_task(asyncio.to_thread(manage_json, "drain_node", "web-1", db=database))
            client_id, text = str(uuid4()), f"number {len(texts)}"
            while (found := await sent(client, conversation, client_id, text)) is None:
                assert client.closing is not None
                assert (client.closing["reason"], client.closing["reconnect"]) == ("node_draining", "after")
                moves += 1
                client = await connect(other, user)
            conversation = found
            texts.append(text)
            await asyncio.sleep(0.1)
        assert draining is not None
        await draining
        assert await one.ended(DRAINED) == 0
        assert moves == 1
        assert conversation is not None
        messages = await read_with_new_client(other, user, conversation)
        assert [message["text"] for message in messages if message["role"] == "user"] == texts
        assert [message["seq"] for message in messages] == list(range(1, len(messages) + 1))
        await check_chat_works(client)

    run(main())
    states = "SELECT retired_at IS NOT NULL, fenced_at IS NULL FROM connections_node WHERE name = ?"
    assert database.query(states, ["web-1"]) == [(1, 1)]
