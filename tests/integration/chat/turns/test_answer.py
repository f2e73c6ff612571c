"""Whatever an agent does, its answer is bounded, ends, and holds only what can be stored and sent."""

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from django.db import DataError

from connections.chat import limits
from connections.chat.agents import tools
from connections.chat.agents.protocol import Delta, Thought, ToolCall
from connections.chat.agents.tools import Tool, ToolContext, run_tool
from connections.chat.executors import in_database, in_tool_thread
from connections.chat.models import AgentTurn
from connections.chat.turns import rows as turn_rows
from connections.policy.actor import Actor
from connections.recovery import actions
from tests.support.chat_turns import Answer, ask, run_turn
from tests.support.rows import make_node, make_record, make_user

pytestmark = pytest.mark.django_db(transaction=True)


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
        (raises, turn_rows.APOLOGY, "RuntimeError('a bug')"),
        (says_nothing, turn_rows.APOLOGY, "the agent said nothing"),
        (says_too_much, turn_rows.APOLOGY, "ValueError"),
        (hangs, turn_rows.APOLOGY_LATE, "took more than"),
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


async def swallows_its_end() -> Answer:
    while True:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            yield Delta("I go on. ")


async def never_waits() -> Answer:
    while True:
        yield Delta("")


async def thinks_in_circles() -> Answer:
    while True:
        yield Thought("Once more.")


@pytest.mark.parametrize(
    ("script", "error"),
    [(swallows_its_end, "took more than"), (never_waits, "took more than"), (thinks_in_circles, "in circles")],
)
def test_an_agent_that_does_not_end_by_itself_is_ended(
    monkeypatch: pytest.MonkeyPatch, script: Callable[[], Answer], error: str
) -> None:
    monkeypatch.setattr(limits, "TURN_SECONDS", 0.3)
    monkeypatch.setattr(limits, "AGENT_CANCEL_SECONDS", 0.2)
    user = make_user("ada")
    socket, turn = run_turn(user, script)
    assert socket.frames[-1]["type"] == "agent_completed", "nothing comes after the end"
    assert not socket.of("agent_delta")
    assert turn.state == "failed"
    assert error in turn.error


def test_what_no_database_can_hold_is_replaced_and_characters_cut_in_two_are_joined() -> None:
    async def script() -> Answer:
        yield Thought("half \ud83d of a pair")
        yield ToolCall("no\0tool", {"qu\0ery": "\ude00"})
        for piece in ("smile \ud83d", "\ude00 and ", "nul \0, lone \ud83d", "!"):
            yield Delta(piece)

    socket, turn = run_turn(make_user("ada"), script)
    said = "smile 😀 and nul \N{REPLACEMENT CHARACTER}, lone \N{REPLACEMENT CHARACTER}!"
    assert (
        socket.of("agent_completed")[0]["text"] == "".join(frame["text"] for frame in socket.of("agent_delta")) == said
    )
    assert turn.answer is not None
    assert turn.answer.text == said
    assert [set(step) & {"thought", "tool"} for step in turn.answer.steps] == [{"thought"}, {"tool"}]
    assert "\0" not in json.dumps(turn.answer.steps, ensure_ascii=False)


def test_an_answer_that_can_not_be_stored_ends_in_an_apology(monkeypatch: pytest.MonkeyPatch) -> None:
    finish = turn_rows.finish

    def refuses(run: UUID, attempt: int, text: str, **options: Any) -> turn_rows.Ended | None:
        if text == "unstorable":
            raise DataError("no such text")
        return finish(run, attempt, text, **options)

    async def script() -> Answer:
        yield Delta("unstorable")

    monkeypatch.setattr(turn_rows, "finish", refuses)
    socket, turn = run_turn(make_user("ada"), script)
    assert socket.of("agent_completed")[0]["text"] == turn_rows.APOLOGY
    assert (turn.state, "no such text" in turn.error) == ("failed", True)


def test_a_tool_cut_off_in_the_middle_is_told_to_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script() -> Answer:
        result = yield ToolCall("slow")
        assert result is not None
        yield Delta(str(result.value))

    release = threading.Event()
    monkeypatch.setitem(tools.TOOLS, "slow", Tool("slow", "", {"properties": {}}, lambda asker: release.wait(10)))
    try:
        with monkeypatch.context() as shorter:
            shorter.setattr(limits, "TURN_SECONDS", 0.3)
            cut, _ = run_turn(make_user("ada"), script)
        monkeypatch.setattr(limits, "TOOL_SECONDS", 0.3)
        late, turn = run_turn(make_user("grace"), script)
    finally:
        release.set()
    for socket, apology in ((cut, turn_rows.APOLOGY_LATE), (late, "This took too long. It may still be done.")):
        kinds = [frame["type"] for frame in socket.frames if "tool" in frame]
        assert kinds == ["tool_executing", "tool_completed"]
        assert socket.of("tool_completed")[0]["success"] is False
        assert socket.of("agent_completed")[0]["text"] == apology
    assert turn.state == "completed"


def test_slow_tools_hold_up_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    user, release = make_user("ada"), threading.Event()
    monkeypatch.setitem(tools.TOOLS, "slow", Tool("slow", "", {"properties": {}}, lambda asker: release.wait(10)))

    async def main() -> None:
        slow = [asyncio.create_task(in_tool_thread(10, release.wait, 10)) for _ in range(8)]
        async with asyncio.timeout(5):
            await in_database(ask, user)
        release.set()
        await asyncio.gather(*slow)

    asyncio.run(main())


@pytest.mark.parametrize("lost", ["the turn", "the wish", "the socket", "the session"])
def test_nobody_is_signed_out_for_a_turn_that_is_no_longer_asked_for(lost: str) -> None:
    """Its node was away meanwhile, its user stopped it, or the tab that asked is back under another id."""
    user, node = make_user("ada"), make_node()
    asks, other = make_record(user, node), make_record(user, node)
    stored = ask(user, "Sign out the others")
    claimed = turn_rows.claim(user.pk, node.pk)
    assert claimed is not None
    context = ToolContext(user.pk, stored.message.conversation, asks.pk, turn=(claimed.run, claimed.attempt))
    match lost:
        case "the turn":
            AgentTurn.objects.update(attempt=2)
        case "the wish":
            turn_rows.cancel(user.pk, claimed.run)
        case "the socket":
            context = replace(context, manager=None)
        case "the session":
            actions.close_own(user, [asks.pk], actor=Actor.user(user))
    result = run_tool(context, "sign_out_others", {})
    assert not result.success
    other.refresh_from_db()
    assert other.state == "live"
