"""Run agent turns and their delivery in the test's own process, with a fake socket, a scripted agent and a real hub."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.contrib.auth.models import User
from django.utils import timezone

from connections.bus import Bus
from connections.chat import messages
from connections.chat.agents.openai_agent import OpenAIAgent
from connections.chat.agents.protocol import Agent, Question, Step, ToolResult
from connections.chat.delivery.hub import Hub
from connections.chat.delivery.subscriber import Subscriber
from connections.chat.frames import UserMessage
from connections.chat.messages import StoredMessage
from connections.chat.models import AgentTurn
from connections.chat.turns import rows as turn_rows
from connections.chat.turns.runner import TurnRunner

Answer = AsyncGenerator[Step, ToolResult | None]


class Socket:
    """A fake of the part of `Manager` that hub and turn runner use. It keeps all frames that it is given."""

    def __init__(self, user: User) -> None:
        self.id = uuid4()
        self.user_id = user.pk
        self.closing = False
        self.full = False
        self.turns = self.most_turns = 0
        self.frames: list[dict[str, Any]] = []

    def deliver(self, *texts: str) -> bool:
        if self.full:
            return False
        self.frames += map(json.loads, texts)
        return True

    @contextmanager
    def turn(self) -> Iterator[None]:
        self.turns += 1
        self.most_turns = max(self.turns, self.most_turns)
        try:
            yield
        finally:
            self.turns -= 1

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["type"] == kind]


class Scripted:
    """An agent that does what the test says."""

    history_limit = 0
    introduction = "A script of this test."

    def __init__(self, script: Callable[[], Answer]) -> None:
        self.script = script

    def answer(self, question: Question) -> Answer:
        return self.script()


def ask(user: User, text: str = "hello", conversation: UUID | None = None) -> messages.Stored:
    key = uuid4()
    return messages.add_user_message(user.pk, UserMessage(key, conversation, text, str(key)))


def run_turn(user: User, script: Callable[[], Answer], *, cancel: bool = False) -> tuple[Socket, AgentTurn]:
    return answered(ask(user), user, Scripted(script), cancel=cancel)


def answered(stored: messages.Stored, user: User, agent: Agent, *, cancel: bool = False) -> tuple[Socket, AgentTurn]:
    """Have an agent answer one stored question to its end; with `cancel`, cancel the turn after the answer's first
    piece. Return the socket that asked, with its frames, and the turn's row.
    """
    socket, hub = Socket(user), Hub(Bus())

    async def main() -> None:
        runner = TurnRunner(hub, agent)
        hub.attach(socket, timezone.now())  # type: ignore[arg-type]
        hub.message(user.pk, stored.message)
        socket.frames.clear()  # the question's own frame: callers look at the answer's frames only
        assert stored.run is not None
        runner.asked(stored.run, socket)  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            while cancel and not socket.of("agent_delta"):
                await asyncio.sleep(0.01)
            if cancel:
                await asyncio.to_thread(turn_rows.cancel, user.pk, stored.run)
                runner.cancelled()
            while not socket.of("agent_completed"):
                await asyncio.sleep(0.01)
        await runner.stop()
        if isinstance(agent, OpenAIAgent):  # its HTTP client's open connections belong to this event loop
            await agent._client.close()

    asyncio.run(main())
    return socket, AgentTurn.objects.get(question__seq=stored.message.seq, conversation_id=stored.message.conversation)


def write(user: User, count: int) -> list[StoredMessage]:
    """Store `count` messages in one new conversation."""
    written: list[StoredMessage] = []
    for number in range(count):
        key, conversation = uuid4(), written[0].conversation if written else None
        sent = UserMessage(key, conversation, f"message {number}", str(key))
        written.append(messages.add_user_message(user.pk, sent).message)
    return written


SINCE = timezone.now() + timedelta(days=1)  # after every message of the tests: no stored message counts as new
Main = Callable[[Hub, Subscriber, Socket], Awaitable[None]]


def told(user: User, main: Main, show: Callable[[Subscriber, UUID], None] | None = None) -> Socket:
    """Attach a socket to a new hub, run `main` with hub, subscriber and socket, and return the socket after the hub's
    and the subscriber's last task. With `show`, the hub calls `show` where it would send the state of a running turn.
    """
    socket, hub = Socket(user), Hub(Bus())
    if show is not None:
        hub.show_turn = show

    async def run() -> None:
        reader = hub.attach(socket, SINCE)  # type: ignore[arg-type]
        await main(hub, reader, socket)
        async with asyncio.timeout(10):
            while reader._tasks or hub._tasks:
                await asyncio.sleep(0.01)
        hub.detach(reader)

    asyncio.run(run())
    return socket


def seqs(user: User, main: Main) -> list[int]:
    """Run `main` as `told` does, and return the sequence numbers of the messages that the socket was sent."""
    return [frame["seq"] for frame in told(user, main).of("message")]
