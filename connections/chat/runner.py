"""Agent turns of this process: each is a task of its own beside the sockets, so closing one stops nothing."""

import asyncio
import logging
import random
import time
from collections.abc import Coroutine
from contextlib import aclosing, nullcontext
from typing import Any
from uuid import UUID, uuid4

from django.db import Error as DatabaseError
from django.utils import timezone

from connections import database
from connections.bus import bus
from connections.chat import agents, limits, store, turns
from connections.chat.agents.protocol import Agent, AgentFailed, Delta, Question, Thought, ToolCall, ToolResult
from connections.chat.agents.tools import Asker, use
from connections.chat.events import COMPLETED, STARTED
from connections.chat.hub import Hub, hub
from connections.chat.live import Live
from connections.chat.relay import Relay
from connections.chat.store import StoredMessage
from connections.chat.threads import in_database
from connections.chat.turns import Claimed
from connections.chat.wire import frame
from connections.manager import Manager
from connections.node import current_node

logger = logging.getLogger(__name__)

CANCEL = "cancel"
FINISH_DELAYS = (0.2, 0.5, 1.0, 2.0, 4.0)  # seconds between attempts to store an answer; then it is left behind


class TurnRunner:
    def __init__(self, hub: Hub, agent: Agent) -> None:
        self.agent = agent
        self._hub = hub
        self._live: dict[UUID, Live] = {}  # by conversation
        self._relay = Relay(hub, self._live)
        self._askers: dict[UUID, Manager] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        bus.subscribe(CANCEL, lambda _: self._stop_soon())

    def start(self) -> None:
        """Look after turns that were left behind, from now on. Does nothing the second time."""
        if self._keeper is None or self._keeper.done():
            self._keeper = self._spawn(self._keep(), "chat-keeper")

    async def stop(self) -> None:
        """Cancel everything and wait for it. What was running is another node's to take over."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def asked(self, run: UUID, manager: Manager) -> None:
        """A question was stored: have it answered, and hold a turn on the socket it came from."""
        self._askers[run] = manager
        self._claim_soon(manager.user_id)

    def cancelled(self) -> None:
        """A turn was marked as not wanted any more: whichever node runs it stops."""
        self._stop_soon()
        bus.ring(None, CANCEL)

    def forget(self, manager: Manager) -> None:
        """The socket has ended; its questions are answered all the same."""
        for run in [run for run, asker in self._askers.items() if asker is manager]:
            del self._askers[run]

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("chat_task_failed", exc_info=error, extra={"task": task.get_name()})

    # Stopping

    def _stop_soon(self) -> None:
        if self._live:
            self._spawn(self._stop_unwanted(), "chat-stop")

    async def _stop_unwanted(self) -> None:
        under_way = {live.turn.run: live for live in self._live.values()}
        try:
            attempts = {run: live.turn.attempt for run, live in under_way.items()}
            for run in await in_database(turns.unwanted, attempts):
                under_way[run].stop()
        except (DatabaseError, TimeoutError) as error:  # the keeper looks again
            logger.warning("chat_cancel_not_read", extra={"error": str(error)})

    # Claiming

    def _claim_soon(self, user_id: Any) -> None:
        self._spawn(self._claim(user_id), f"chat-claim {user_id}")

    async def _claim(self, user_id: Any) -> None:
        try:
            while (node := current_node()) is None or (node.id is not None and not node.leaving):
                turn = await in_database(turns.claim, user_id, None if node is None else node.id)
                if turn is None:
                    return
                self._spawn(self._run(turn), f"chat-turn {turn.run}")
        except (DatabaseError, TimeoutError) as error:  # the keeper tries again
            logger.warning("chat_claim_failed", extra={"user": str(user_id), "error": str(error)})

    async def _keep(self) -> None:
        while True:
            try:
                ended, users = await in_database(lambda: turns.rescue(database.now()))
                for turn in ended:
                    self._tell_end(turn)
                    logger.warning("chat_turn_ended_for_a_lost_node", extra={"run": str(turn.run)})
                for user_id in users:
                    self._claim_soon(user_id)
            except (DatabaseError, TimeoutError) as error:
                logger.warning("chat_keeper_failed", extra={"error": str(error)})
            self._stop_soon()  # a bell may be lost
            await asyncio.sleep(limits.KEEPER_SECONDS * random.uniform(0.8, 1.2))

    def _tell_end(self, turn: turns.Ended) -> None:
        message = turn.message
        self._hub.message(turn.user_id, message)
        text = frame(
            COMPLETED,
            run=turn.run,
            conversation=message.conversation,
            event_id=uuid4(),
            timestamp=timezone.now(),
            text=message.text,
            seq=message.seq,
            duration_ms=turn.milliseconds,
            success=False,
        )
        self._relay.ended(turn.user_id, turn.run, text)

    # Running

    async def _run(self, turn: Claimed) -> None:
        asker = self._askers.pop(turn.run, None)
        live = self._live[turn.conversation] = Live(turn, self._relay.tell)
        self._relay.began(live)
        try:
            with nullcontext() if asker is None or asker.closing else asker.turn():
                live.event(STARTED)
                text, failure = await self._outcome(live, asker)
                stored = await self._finish(live, text, failure)
            if stored is not None:
                self._hub.message(turn.user_id, stored)
                took = live.milliseconds()
                live.event(COMPLETED, text=text, seq=stored.seq, duration_ms=took, success=not failure)
        finally:
            self._relay.over(live)
            if self._live.get(turn.conversation) is live:
                del self._live[turn.conversation]
        self._claim_soon(turn.user_id)

    async def _outcome(self, live: Live, asker: Manager | None) -> tuple[str, str]:
        """(what the user reads, what went wrong or nothing). A failure is logged, and ends in an apology."""
        try:
            async with live.limited(limits.TURN_SECONDS):
                await self._answer(live, asker)
            if live.text.strip():
                return live.text, ""
            failure, apology = "the agent said nothing", turns.APOLOGY
        except TimeoutError:
            if live.stopped:
                return f"{live.text.rstrip()}\n\n{turns.STOPPED}".lstrip(), turns.CANCELLED
            failure, apology = f"took more than {limits.TURN_SECONDS:g} s", turns.APOLOGY_LATE
        except AgentFailed as error:
            cause = error.__cause__
            logger.warning(
                "chat_agent_failed", extra={"run": str(live.turn.run), "said": str(error), "error": repr(cause)}
            )
            return f"{live.text.rstrip()}\n\n{error}".lstrip(), f"{error} {cause!r}"
        except Exception as error:
            logger.exception("chat_turn_failed", extra={"run": str(live.turn.run)})
            return turns.APOLOGY, repr(error)
        logger.error("chat_turn_failed", extra={"run": str(live.turn.run), "failure": failure})
        return apology, failure

    async def _answer(self, live: Live, asker: Manager | None) -> None:
        turn = live.turn
        before: tuple[tuple[str, str], ...] = ()
        if self.agent.remembers:
            before = await in_database(store.said_before, turn.conversation, turn.seq, self.agent.remembers)
        question = Question(turn.text, turn.joined, before)
        result: ToolResult | None = None
        length = 0
        async with aclosing(self.agent.answer(question)) as steps:
            while True:
                try:
                    step = await steps.asend(result)
                except StopAsyncIteration:
                    return
                result = None
                match step:
                    case Thought():
                        live.thought(step.text)
                    case ToolCall():
                        result = await self._use(live, asker, step)
                    case Delta():
                        length += len(step.text)
                        if length > limits.ANSWER_CHARACTERS:
                            raise ValueError(f"an answer above {limits.ANSWER_CHARACTERS} characters")
                        live.delta(step.text)

    async def _use(self, live: Live, asker: Manager | None, call: ToolCall) -> ToolResult:
        turn = live.turn
        on_behalf = Asker(turn.user_id, turn.conversation, asker.id if asker else None, turn.seq)
        began = time.monotonic()
        result = ToolResult("This was stopped before it was done.", success=False)
        live.tool_begins(call)
        try:
            async with asyncio.timeout(limits.TOOL_SECONDS):
                result = await in_database(use, on_behalf, call.tool, call.parameters)
        except TimeoutError:
            result = ToolResult("This took too long. Please try again later.", success=False)
        except Exception:
            logger.exception("chat_tool_failed", extra={"run": str(turn.run), "tool": call.tool})
            result = ToolResult("This did not work. Please try again later.", success=False)
        finally:
            live.tool_ended(call, result, _milliseconds(began))
        return result

    async def _finish(self, live: Live, text: str, failure: str) -> StoredMessage | None:
        """Store the answer. None if the turn is no longer ours, or the database stayed away: then another node, or
        this one later, ends it."""
        turn = live.turn
        for delay in (*FINISH_DELAYS, None):
            try:
                return await in_database(turns.finish, turn.run, turn.attempt, text, failure=failure, steps=live.steps)
            except (DatabaseError, TimeoutError) as error:
                logger.warning("chat_answer_not_stored", extra={"run": str(turn.run), "error": str(error)})
                if delay is not None:
                    await asyncio.sleep(delay)
        return None


def _milliseconds(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


runner = TurnRunner(hub, agents.configured())
