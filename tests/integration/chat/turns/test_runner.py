"""Whatever an agent does, its turn ends, tells the user so, and tools are reported from beginning to end."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from connections.bus import Bus
from connections.chat import limits, messages
from connections.chat.agents.protocol import Delta, Thought, ToolCall
from connections.chat.delivery.hub import Hub
from connections.chat.models import AgentTurn, Message
from connections.chat.turns import rows as turn_rows
from connections.chat.turns import runner as runner_module
from connections.chat.turns.runner import TurnRunner
from tests.support.chat_turns import Answer, Scripted, Socket, ask, run_turn
from tests.support.rows import make_node, make_user

pytestmark = pytest.mark.django_db(transaction=True)


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
    said = f"half an answer\n\n{turn_rows.STOPPED}"
    assert (done["type"], done["text"], done["success"]) == ("agent_completed", said, False)
    assert [message["text"] for message in socket.of("message")] == [said]
    assert (turn.state, turn.error) == ("cancelled", turn_rows.CANCELLED)


def test_an_answer_is_stored_when_the_database_is_back_also_if_it_was_stored_already(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finish, failures = turn_rows.finish, [OperationalError("gone after the commit"), TimeoutError()]

    def fails(*arguments: Any, **options: Any) -> turn_rows.Ended | None:
        ended = finish(*arguments, **options) if len(failures) < 2 else None
        if failures:
            raise failures.pop()
        return ended

    async def script() -> Answer:
        yield Delta("here it is")

    monkeypatch.setattr(turn_rows, "finish", fails)
    monkeypatch.setattr(runner_module, "FINISH_DELAYS", (0.01,) * 5)
    socket, turn = run_turn(make_user("ada"), script)
    assert failures == []
    assert [frame["text"] for frame in socket.of("agent_completed")] == ["here it is"]
    assert turn.state == "completed"


def test_an_attempt_that_this_process_lost_is_stopped_by_the_next_and_its_followers_stay() -> None:
    user, hub = make_user("ada"), Hub(Bus())
    stored = ask(user)
    begun: list[int] = []

    async def script() -> Answer:
        begun.append(1)
        if len(begun) == 1:
            yield Delta("the first")
            await asyncio.Event().wait()
        yield Delta("the second")

    async def main() -> None:
        runner, socket = TurnRunner(hub, Scripted(script)), Socket(user)
        hub.attach(socket, timezone.now())  # type: ignore[arg-type]
        runner.asked(stored.run, socket)  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            while not begun:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(
                AgentTurn.objects.update, state="queued", slot=None, started_at=None, deadline_at=None
            )
            runner.asked(stored.run, socket)  # type: ignore[arg-type]
            while not socket.of("agent_completed"):
                await asyncio.sleep(0.01)
            while [task for task in runner._tasks if "turn" in task.get_name()]:
                await asyncio.sleep(0.01)
        assert [frame["text"] for frame in socket.of("agent_completed")] == ["the second"]
        await runner.stop()

    asyncio.run(main())
    assert Message.objects.filter(role="assistant").count() == 1


def test_a_node_that_leaves_begins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    user = make_user("ada")
    stored = ask(user)

    async def script() -> Answer:
        yield Delta("begun")

    async def main() -> None:
        runner = TurnRunner(Hub(Bus()), Scripted(script))
        leaving = SimpleNamespace(id=make_node_id, leaving=True)
        monkeypatch.setattr(runner_module, "current_node", lambda: leaving)
        assert stored.run is not None
        runner.asked(stored.run, Socket(user))  # type: ignore[arg-type]
        await asyncio.gather(*runner._tasks)
        await runner.stop()

    make_node_id = make_node().pk
    asyncio.run(main())
    assert AgentTurn.objects.get().state == "queued"


def test_the_next_question_is_answered_when_the_first_has_its_answer() -> None:
    user = make_user("ada")
    first = ask(user, "first")
    second = ask(user, "second", first.message.conversation)

    async def script() -> Answer:
        yield Delta("answered")
        await asyncio.sleep(0.1)

    async def main() -> None:
        runner, socket = TurnRunner(Hub(Bus()), Scripted(script)), Socket(user)
        for stored in (first, second):
            assert stored.run is not None
            runner.asked(stored.run, socket)  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            while await asyncio.to_thread(AgentTurn.objects.unfinished().exists):
                await asyncio.sleep(0.02)
        await runner.stop()

    asyncio.run(main())
    said = messages.messages_after(user.pk, first.message.conversation, 0, 10)
    assert [message.role for message in said] == ["user", "user", "assistant", "assistant"]


def test_an_answer_is_stopped_also_where_the_bell_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEEPER_SECONDS", 0.1)
    user, hub = make_user("ada"), Hub(Bus())
    run, socket = ask(user).run, Socket(user)
    assert run is not None

    async def script() -> Answer:
        yield Delta("half an answer")
        await asyncio.Event().wait()

    async def main() -> None:
        runner = TurnRunner(hub, Scripted(script))
        hub.attach(socket, timezone.now())  # type: ignore[arg-type]
        runner.start()
        async with asyncio.timeout(10):
            while not socket.of("agent_delta"):
                await asyncio.sleep(0.01)
            await asyncio.to_thread(turn_rows.cancel, user.pk, run)
            while not socket.of("agent_completed"):
                await asyncio.sleep(0.01)
        await runner.stop()

    asyncio.run(main())
    assert AgentTurn.objects.get().state == "cancelled"


def test_what_nobody_runs_any_more_is_taken_up_at_the_start() -> None:
    user = make_user("ada")
    stored = ask(user)

    async def script() -> Answer:
        yield Delta("late, but here")

    async def main() -> None:
        runner = TurnRunner(Hub(Bus()), Scripted(script))
        runner.start()
        async with asyncio.timeout(10):
            while not await asyncio.to_thread(AgentTurn.objects.filter(state="completed").exists):
                await asyncio.sleep(0.02)
        await runner.stop()

    asyncio.run(main())
    found = messages.messages_after(user.pk, stored.message.conversation, 1, 10)
    assert [message.text for message in found] == ["late, but here"]
