"""Talking to the agent over a chat client."""

from uuid import uuid4

from tests.support.clients import ChatClient, Frame


async def say(client: ChatClient, text: str, conversation: str | None = None, client_id: str | None = None) -> Frame:
    """Send a message and return its ack."""
    client_id = client_id or str(uuid4())
    await client.send("user_message", client_id=client_id, conversation=conversation, text=text)
    return await client.expect("ack", client_id=client_id)


async def answer(client: ChatClient, conversation: str) -> Frame:
    return await client.expect("agent_completed", conversation=conversation, timeout=10)


async def resumed(client: ChatClient, conversation: str, after: int) -> list[Frame]:
    """The messages that a resume delivers."""
    before = len(client.frames)
    await client.send("resume", conversation=conversation, after_seq=after)
    end = await client.expect("resumed", conversation=conversation)
    messages = [frame for frame in client.frames[before:] if frame["type"] == "message"]
    assert end["last_seq"] == (messages[-1]["seq"] if messages else after)
    return messages
