"""Run one agent on one question, within limits of time, steps and length. The outcome is an answer or an apology."""

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
    """`asker` is the socket that asked, if it is known. `tasks` holds the tasks that `TurnRunner.stop` cancels."""

    def __init__(
        self, agent: Agent, running: RunningTurn, asker: Manager | None, tasks: "set[asyncio.Task[None]]"
    ) -> None:
        self.agent = agent
        self.running = running
        self.asker = asker
        self._tasks = tasks

    async def outcome(self) -> tuple[str, str]:
        """Return (text for the user, failure or empty). A failure is logged, and the text is an apology."""
        try:
            if await self._run_agent():
                if self.running.text.strip():
                    return self.running.text, ""
                failure, apology = "the agent said nothing", turn_rows.APOLOGY
            elif self.running.stopped:
                return f"{self.running.text.rstrip()}\n\n{turn_rows.STOPPED}".lstrip(), turn_rows.CANCELLED
            else:
                failure, apology = f"took more than {limits.TURN_SECONDS:g} s", turn_rows.APOLOGY_LATE
        except AgentFailed as error:
            cause = error.__cause__
            logger.warning(
                "chat_agent_failed", extra={"run": str(self.running.turn.run), "said": str(error), "error": repr(cause)}
            )
            return f"{self.running.text.rstrip()}\n\n{error}".lstrip(), f"{error} {cause!r}"
        except Exception as error:  # whatever an agent raises, its turn ends with an apology
            logger.exception("chat_turn_failed", extra={"run": str(self.running.turn.run)})
            return turn_rows.APOLOGY, repr(error)
        logger.error("chat_turn_failed", extra={"run": str(self.running.turn.run), "failure": failure})
        return apology, failure

    async def _run_agent(self) -> bool:
        """Run the agent. Returns False if the turn was stopped or ran out of time first. Raises what the agent raises.

        The agent has its own task, so that one that swallows its cancellation can be abandoned, and blocks nothing.
        """
        agent = asyncio.get_running_loop().create_task(self._relay_steps(), name=f"chat-agent {self.running.turn.run}")
        self._tasks.add(agent)
        agent.add_done_callback(self._tasks.discard)
        try:
            if await self.running.wait(agent, limits.TURN_SECONDS):
                agent.result()
                return True
            agent.cancel()
            await asyncio.wait({agent}, timeout=limits.AGENT_CANCEL_SECONDS)
            if not agent.done():
                logger.error("chat_agent_abandoned", extra={"run": str(self.running.turn.run)})
                agent.add_done_callback(_log_late_end)
            elif not agent.cancelled() and (error := agent.exception()) is not None:
                logger.warning(
                    "chat_agent_failed_late", extra={"run": str(self.running.turn.run), "error": repr(error)}
                )
            return False
        finally:
            agent.cancel()

    async def _relay_steps(self) -> None:
        turn = self.running.turn
        history: tuple[tuple[str, str], ...] = ()
        if self.agent.history_limit:
            history = await in_database(messages.history_before, turn.conversation, turn.seq, self.agent.history_limit)
        question = Question(turn.text, turn.joined, history)
        result: ToolResult | None = None
        pieces, length, shown = PieceSanitizer(), 0, 0
        async with aclosing(self.agent.answer(question)) as steps:
            while True:
                try:
                    step = await steps.asend(result)
                except StopAsyncIteration:
                    return
                await asyncio.sleep(0)  # let other tasks run, also if the agent never awaits
                if self.running.discarded:
                    return
                result = None
                shown += not isinstance(step, Delta)
                if shown > limits.AGENT_STEPS:
                    raise AgentFailed("I went round in circles and stopped. Please ask differently.")
                match step:
                    case Thought():
                        self.running.thought(sanitize_text(step.text))
                    case ToolCall():
                        call = ToolCall(sanitize_text(step.tool), sanitize_data(step.parameters))
                        result = await self._run_tool(call)
                    case Delta():
                        length += len(step.text)
                        if length > limits.ANSWER_CHARACTERS:
                            raise ValueError(f"an answer above {limits.ANSWER_CHARACTERS} characters")
                        if piece := pieces.next(step.text):
                            self.running.delta(piece)

    async def _run_tool(self, call: ToolCall) -> ToolResult:
        turn = self.running.turn
        current = None if self.asker is None or self.asker.closing else self.asker.id
        context = ToolContext(turn.user_id, turn.conversation, current, turn.seq, (turn.run, turn.attempt))
        began = time.monotonic()
        result = ToolResult("This was stopped. If it had begun, it may still be done.", success=False)
        self.running.tool_started(call)
        try:
            result = await in_tool_thread(limits.TOOL_SECONDS, run_tool, context, call.tool, call.parameters)
        except TimeoutError:
            result = ToolResult("This took too long. It may still be done.", success=False)
        except Exception:  # a tool that fails is a result, with which the agent goes on
            logger.exception("chat_tool_failed", extra={"run": str(turn.run), "tool": call.tool})
            result = ToolResult("This did not work. Please try again later.", success=False)
        finally:
            self.running.tool_ended(call, result, _milliseconds(began))
        return result


def _log_late_end(agent: "asyncio.Task[None]") -> None:
    """Log that an abandoned agent has ended after all."""
    error = None if agent.cancelled() else agent.exception()
    logger.warning("chat_agent_ended_late", extra={"task": agent.get_name(), "error": repr(error)})


def _milliseconds(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
