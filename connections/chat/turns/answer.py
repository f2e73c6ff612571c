"""Run one agent on one question, within its bounds, and make its answer or an apology."""

import asyncio
import logging
import time
from contextlib import aclosing

from connections.chat import limits, messages
from connections.chat.agents.protocol import Agent, AgentFailed, Delta, Question, Thought, ToolCall, ToolResult
from connections.chat.agents.sanitize import PieceSanitizer, sanitize_data, sanitize_text
from connections.chat.agents.tools import ToolContext, run_tool
from connections.chat.executors import in_database, in_tool_thread
from connections.chat.turns import rows as turn_rows
from connections.chat.turns.running import RunningTurn
from connections.websocket.manager import Manager

logger = logging.getLogger(__name__)


class AnswerTask:
    """`asker` is the socket that asked, if it is known; `tasks` collects the tasks that are still running."""

    def __init__(
        self, agent: Agent, live: RunningTurn, asker: Manager | None, tasks: "set[asyncio.Task[None]]"
    ) -> None:
        self.agent = agent
        self.live = live
        self.asker = asker
        self._tasks = tasks

    async def outcome(self) -> tuple[str, str]:
        """Return (text for the user, failure or empty). A failure is logged, and the text is an apology."""
        try:
            if await self._agent_ends():
                if self.live.text.strip():
                    return self.live.text, ""
                failure, apology = "the agent said nothing", turn_rows.APOLOGY
            elif self.live.stopped:
                return f"{self.live.text.rstrip()}\n\n{turn_rows.STOPPED}".lstrip(), turn_rows.CANCELLED
            else:
                failure, apology = f"took more than {limits.TURN_SECONDS:g} s", turn_rows.APOLOGY_LATE
        except AgentFailed as error:
            cause = error.__cause__
            logger.warning(
                "chat_agent_failed", extra={"run": str(self.live.turn.run), "said": str(error), "error": repr(cause)}
            )
            return f"{self.live.text.rstrip()}\n\n{error}".lstrip(), f"{error} {cause!r}"
        except Exception as error:
            logger.exception("chat_turn_failed", extra={"run": str(self.live.turn.run)})
            return turn_rows.APOLOGY, repr(error)
        logger.error("chat_turn_failed", extra={"run": str(self.live.turn.run), "failure": failure})
        return apology, failure

    async def _agent_ends(self) -> bool:
        """Run the agent; False if its time was over first. Raises what it raises.

        It runs in a task of its own, so that one which swallows its cancellation is abandoned, and holds nobody up.
        """
        agent = asyncio.get_running_loop().create_task(self._answer(), name=f"chat-agent {self.live.turn.run}")
        self._tasks.add(agent)
        agent.add_done_callback(self._tasks.discard)
        try:
            if await self.live.wait(agent, limits.TURN_SECONDS):
                agent.result()
                return True
            agent.cancel()
            await asyncio.wait({agent}, timeout=limits.AGENT_CANCEL_SECONDS)
            if not agent.done():
                logger.error("chat_agent_abandoned", extra={"run": str(self.live.turn.run)})
                agent.add_done_callback(_heard_out)
            elif not agent.cancelled() and (error := agent.exception()) is not None:
                logger.warning("chat_agent_failed_late", extra={"run": str(self.live.turn.run), "error": repr(error)})
            return False
        finally:
            agent.cancel()

    async def _answer(self) -> None:
        turn = self.live.turn
        before: tuple[tuple[str, str], ...] = ()
        if self.agent.history_limit:
            before = await in_database(messages.history_before, turn.conversation, turn.seq, self.agent.history_limit)
        question = Question(turn.text, turn.joined, before)
        result: ToolResult | None = None
        pieces, length, shown = PieceSanitizer(), 0, 0
        async with aclosing(self.agent.answer(question)) as steps:
            while True:
                try:
                    step = await steps.asend(result)
                except StopAsyncIteration:
                    return
                await asyncio.sleep(0)  # let other tasks run beside an agent that never awaits
                if self.live.over:
                    return
                result = None
                shown += not isinstance(step, Delta)
                if shown > limits.AGENT_STEPS:
                    raise AgentFailed("I went round in circles and stopped. Please ask differently.")
                match step:
                    case Thought():
                        self.live.thought(sanitize_text(step.text))
                    case ToolCall():
                        call = ToolCall(sanitize_text(step.tool), sanitize_data(step.parameters))
                        result = await self._use(call)
                    case Delta():
                        length += len(step.text)
                        if length > limits.ANSWER_CHARACTERS:
                            raise ValueError(f"an answer above {limits.ANSWER_CHARACTERS} characters")
                        if piece := pieces.next(step.text):
                            self.live.delta(piece)

    async def _use(self, call: ToolCall) -> ToolResult:
        turn = self.live.turn
        current = None if self.asker is None or self.asker.closing else self.asker.id
        context = ToolContext(turn.user_id, turn.conversation, current, turn.seq, (turn.run, turn.attempt))
        began = time.monotonic()
        result = ToolResult("This was stopped. If it had begun, it may still be done.", success=False)
        self.live.tool_begins(call)
        try:
            result = await in_tool_thread(limits.TOOL_SECONDS, run_tool, context, call.tool, call.parameters)
        except TimeoutError:
            result = ToolResult("This took too long. It may still be done.", success=False)
        except Exception:
            logger.exception("chat_tool_failed", extra={"run": str(turn.run), "tool": call.tool})
            result = ToolResult("This did not work. Please try again later.", success=False)
        finally:
            self.live.tool_ended(call, result, _milliseconds(began))
        return result


def _heard_out(agent: "asyncio.Task[None]") -> None:
    """Log that an abandoned agent has ended after all."""
    error = None if agent.cancelled() else agent.exception()
    logger.warning("chat_agent_ended_late", extra={"task": agent.get_name(), "error": repr(error)})


def _milliseconds(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
