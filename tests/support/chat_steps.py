"""Steps of a chat over a `ChatClient`: send a message, wait for the agent's answer, resume a conversation."""

from uuid import uuid4

from tests.support.clients import ChatClient, Frame, connected
from tests.support.databases import Database, TestUser
from tests.support.servers import Server


async def send_message(
    client: ChatClient, text: str, conversation: str | None = None, client_id: str | None = None
) -> Frame:
    """Send a message and return its ack."""
    client_id = client_id or str(uuid4())
    await client.send("user_message", client_id=client_id, conversation=conversation, text=text)
    return await client.expect("ack", client_id=client_id)


async def wait_for_answer(client: ChatClient, conversation: str) -> Frame:
    """Return the frame that ends the agent's next answer in the conversation."""
    return await client.expect("agent_completed", conversation=conversation, timeout=10)


async def resume(client: ChatClient, conversation: str, after: int) -> list[Frame]:
    """Resume a conversation and return the messages that the server sends for it: all after `after` on the first resume
    of a socket, and on later ones only messages that the socket was not sent yet.
    """
    before = len(client.frames)
    await client.send("resume", conversation=conversation, after_seq=after)
    end = await client.expect("resumed", conversation=conversation)
    messages = [frame for frame in client.frames[before:] if frame["type"] == "message"]
    assert end["last_seq"] == (messages[-1]["seq"] if messages else after)
    return messages


async def read_with_new_client(server: Server, user: TestUser, conversation: str, after: int = 0) -> list[Frame]:
    """Return the messages that a resume on a new socket delivers."""
    async with connected(server, user) as client:
        return await resume(client, conversation, after)


EVENTS = ("agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_completed")


async def check_event_order(client: ChatClient, conversation: str) -> None:
    """Check that the client has got all frames of one answer that called one tool, in order and without a repeat."""
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


def add_messages(database: Database, user: TestUser, first: int, last: int) -> None:
    """Add messages with the sequence numbers `first` to `last` to the user's only conversation."""
    database.query(
        "INSERT INTO chat_message (conversation_id, seq, role, text, steps, created_at)"
        " WITH RECURSIVE n(seq) AS (SELECT CAST(? AS bigint) UNION ALL SELECT seq + 1 FROM n WHERE seq < ?)"
        " SELECT c.id, n.seq, 'assistant', 'filled', '[]', c.created_at"
        " FROM chat_conversation c, n WHERE c.user_id = ?",
        (first, last, user.id),
    )
    database.query("UPDATE chat_conversation SET last_seq = ? WHERE user_id = ?", (last, user.id))
