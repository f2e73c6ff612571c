"""Whatever an agent does, its turn ends, tells the user so, and tools are reported from beginning to end."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User

from connections.chat import limits, store, turns
from connections.chat.agents.protocol import Agent, Delta, Question, Step, Thought, ToolCall, ToolResult
from connections.chat.hub import Hub
from connections.chat.models import AgentTurn
from connections.chat.runner import TurnRunner
from connections.chat.wire import UserMessage
from tests.support.rows import make_user

pytestmark = pytest.mark.django_db(transaction=True)
Answer = AsyncGenerator[Step, ToolResult | None]


class Socket:
    """What hub and runner use of a manager."""

    def __init__(self, user: User) -> None:
        self.id = uuid4()
        self.user_id = user.pk
        self.closing = False
        self.full = False
        self.turns = self.most_turns = 0
        self.frames: list[dict[str, Any]] = []

    def deliver(self, text: str) -> bool:
        if self.full:
            return False
        self.frames.append(json.loads(text))
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

    remembers = 0
    introduction = "A script of this test."

    def __init__(self, script: Callable[[], Answer]) -> None:
        self.script = script

    def answer(self, question: Question) -> Answer:
        return self.script()


def ask(user: User, text: str = "hello", conversation: UUID | None = None) -> store.Stored:
    key = uuid4()
    return store.add_user_message(user.pk, UserMessage(key, conversation, text, str(key)))


def run_turn(user: User, script: Callable[[], Answer], *, cancel: bool = False) -> tuple[Socket, AgentTurn]:
    return answered(ask(user), user, Scripted(script), cancel=cancel)


def answered(stored: store.Stored, user: User, agent: Agent, *, cancel: bool = False) -> tuple[Socket, AgentTurn]:
    """Have one question answered by an agent, and cancel it once it has begun; returns the asking socket, when all is
    over, and the turn's row.
    """
    socket, hub = Socket(user), Hub()

    async def main() -> None:
        runner = TurnRunner(hub, agent)
        hub.attach(socket, None)  # type: ignore[arg-type]
        assert stored.run is not None
        runner.asked(stored.run, socket)  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            while cancel and not socket.of("agent_delta"):
                await asyncio.sleep(0.01)
            if cancel:
                await asyncio.to_thread(turns.cancel, user.pk, stored.run)
                runner.cancelled()
            while not socket.of("agent_completed"):
                await asyncio.sleep(0.01)
        await runner.stop()

    asyncio.run(main())
    return socket, AgentTurn.objects.get(question__seq=stored.message.seq, conversation_id=stored.message.conversation)


def test_the_events_come_in_order_while_the_socket_has_a_turn() -> None:
    user = make_user("ada")

    async def script() -> Answer:
        yield Thought("I think.")
        result = yield ToolCall("my_sessions")
        assert result is not None
        assert result.success
        yield Delta("Hel")
        yield Delta("lo")

    socket, turn = run_turn(user, script)
    kinds = [frame["type"] for frame in socket.frames]
    assert kinds == [
        "agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_delta", "agent_delta",
        "message", "agent_completed",
    ]  # fmt: skip
    done = socket.frames[-1]
    assert (done["text"], done["seq"], done["success"]) == ("Hello", 2, True)
    assert turn.state == "completed"
    assert turn.answer is not None
    assert turn.answer.text == "Hello"
    assert (socket.most_turns, socket.turns) == (1, 0)


def test_a_cancelled_turn_keeps_what_it_has_said_and_says_that_it_was_stopped() -> None:
    async def script() -> Answer:
        yield Delta("half an answer ")
        await asyncio.Event().wait()

    socket, turn = run_turn(make_user("ada"), script, cancel=True)
    done = socket.frames[-1]
    said = f"half an answer\n\n{turns.STOPPED}"
    assert (done["type"], done["text"], done["success"]) == ("agent_completed", said, False)
    assert [message["text"] for message in socket.of("message")] == [said]
    assert (turn.state, turn.error) == ("cancelled", turns.CANCELLED)


async def raises() -> Answer:
    yield Delta("half an ans")
    raise RuntimeError("a bug")


async def says_nothing() -> Answer:
    yield Thought("Hm.")


async def says_too_much() -> Answer:
    while True:
        yield Delta("x" * 1000)


async def hangs() -> Answer:
    yield Thought("Hm.")
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("script", "apology", "error"),
    [
        (raises, turns.APOLOGY, "RuntimeError('a bug')"),
        (says_nothing, turns.APOLOGY, "the agent said nothing"),
        (says_too_much, turns.APOLOGY, "ValueError"),
        (hangs, turns.APOLOGY_LATE, "took more than"),
    ],
)
def test_a_turn_that_fails_ends_with_an_apology(
    monkeypatch: pytest.MonkeyPatch, script: Callable[[], Answer], apology: str, error: str
) -> None:
    monkeypatch.setattr(limits, "TURN_SECONDS", 0.5)
    socket, turn = run_turn(make_user("ada"), script)
    done = socket.of("agent_completed")[0]
    assert (done["text"], done["success"], done["seq"]) == (apology, False, 2)
    assert socket.of("message")[-1]["text"] == apology
    assert turn.state == "failed"
    assert error in turn.error


def test_a_tool_in_the_middle_of_a_failure_is_reported_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script() -> Answer:
        first = yield ToolCall("no_such_tool")
        assert first is not None
        assert not first.success
        yield ToolCall("my_sessions")
        await asyncio.Event().wait()

    monkeypatch.setattr(limits, "TURN_SECONDS", 0.5)
    socket, _ = run_turn(make_user("ada"), script)
    tools = [(frame["type"], frame["tool"], frame.get("success")) for frame in socket.frames if "tool" in frame]
    assert tools == [
        ("tool_executing", "no_such_tool", None),
        ("tool_completed", "no_such_tool", False),
        ("tool_executing", "my_sessions", None),
        ("tool_completed", "my_sessions", True),
    ]


def test_what_nobody_runs_any_more_is_taken_up_at_the_start() -> None:
    user = make_user("ada")
    stored = ask(user)

    async def script() -> Answer:
        yield Delta("late, but here")

    async def main() -> None:
        runner = TurnRunner(Hub(), Scripted(script))
        runner.start()
        async with asyncio.timeout(10):
            while not await asyncio.to_thread(AgentTurn.objects.filter(state="completed").exists):
                await asyncio.sleep(0.02)
        await runner.stop()

    asyncio.run(main())
    found = store.messages_after(user.pk, stored.message.conversation, 1, 10)
    assert [message.text for message in found] == ["late, but here"]
