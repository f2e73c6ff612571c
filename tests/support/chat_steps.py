"""Talking to the agent over a chat client."""

from uuid import uuid4

from tests.support.clients import ChatClient, Frame, connected
from tests.support.databases import Database, TestUser
from tests.support.servers import Server


async def say(client: ChatClient, text: str, conversation: str | None = None, client_id: str | None = None) -> Frame:
    """Send a message and return its ack."""
    client_id = client_id or str(uuid4())
    await client.send("user_message", client_id=client_id, conversation=conversation, text=text)
    return await client.expect("ack", client_id=client_id)


async def answer(client: ChatClient, conversation: str) -> Frame:
    return await client.expect("agent_completed", conversation=conversation, timeout=10)


async def resumed(client: ChatClient, conversation: str, after: int) -> list[Frame]:
    """The messages that the first resume on a socket delivers: later ones bring only what it was not sent yet."""
    before = len(client.frames)
    await client.send("resume", conversation=conversation, after_seq=after)
    end = await client.expect("resumed", conversation=conversation)
    messages = [frame for frame in client.frames[before:] if frame["type"] == "message"]
    assert end["last_seq"] == (messages[-1]["seq"] if messages else after)
    return messages


async def read_again(server: Server, user: TestUser, conversation: str, after: int = 0) -> list[Frame]:
    """What a new socket is sent of a conversation."""
    async with connected(server, user) as client:
        return await resumed(client, conversation, after)


EVENTS = ("agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_completed")


async def events_are_in_order(client: ChatClient, conversation: str) -> None:
    events = [frame for frame in client.frames if frame["type"] in (*EVENTS, "agent_delta")]
    named = [frame for frame in events if frame["type"] != "agent_delta"]
    assert tuple(frame["type"] for frame in named) == EVENTS
    assert events[-1]["type"] == "agent_completed"
    assert len({frame["run"] for frame in events}) == 1
    assert {frame["conversation"] for frame in events} == {conversation}
    assert len({frame["event_id"] for frame in named}) == len(named)
    assert [frame["timestamp"] for frame in named] == sorted(frame["timestamp"] for frame in named)
    deltas = [frame["text"] for frame in events if frame["type"] == "agent_delta"]
    assert len(deltas) > 1
    assert "".join(deltas) == named[-1]["text"]
    tool = named[3]
    assert (tool["tool"], tool["success"]) == ("my_sessions", True)
    assert [session["current"] for session in tool["result"]["sessions"]].count(True) == 1


def fill(database: Database, user: TestUser, first: int, last: int) -> None:
    """Give the one conversation of the user many more messages."""
    database.query(
        "INSERT INTO chat_message (conversation_id, seq, role, text, steps, created_at)"
        " WITH RECURSIVE n(seq) AS (SELECT ? UNION ALL SELECT seq + 1 FROM n WHERE seq < ?)"
        " SELECT c.id, n.seq, 'assistant', 'filled', '[]', c.created_at"
        " FROM chat_conversation c, n WHERE c.user_id = ?",
        (first, last, user.id),
    )
    database.query("UPDATE chat_conversation SET last_seq = ? WHERE user_id = ?", (last, user.id))
