"""Run the agent turns of this process. Each has its own task, so closing a socket stops no turn."""

import asyncio
import logging
import random
from collections.abc import Coroutine
from contextlib import nullcontext
from functools import partial
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseError

from connections import database
from connections.chat import limits, thread_connection
from connections.chat.agents.protocol import Agent
from connections.chat.delivery.hub import Hub
from connections.chat.executors import in_database
from connections.chat.turn_events import COMPLETED, STARTED
from connections.chat.turns import rows as turn_rows
from connections.chat.turns.answer import AnswerTask
from connections.chat.turns.relay import Relay
from connections.chat.turns.rows import Claimed, Ended
from connections.chat.turns.running import RunningTurn
from connections.node.current import current_node
from connections.websocket.manager import Manager

logger = logging.getLogger(__name__)

CANCEL = "cancel"
ASKERS_REMEMBERED = 1000  # turns whose asking socket is remembered until they are claimed here
# Errors for which an answer is stored later. After any other the answer itself can't be stored.
NOT_NOW = (*thread_connection.LOST, database.Busy)
FINISH_DELAYS = (0.2, 0.5, 1.0, 2.0, 4.0)  # seconds between attempts to store an answer


class TurnRunner:
    def __init__(self, hub: Hub, agent: Agent) -> None:
        self.agent = agent
        self._hub = hub
        self._running: dict[UUID, RunningTurn] = {}  # by conversation
        self._relay = Relay(hub, self._running)
        self._askers: dict[UUID, Manager] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        hub.bus.subscribe(CANCEL, lambda _: self._stop_soon())

    def start(self) -> None:
        """Start the keeper, which requeues abandoned turns. A second call does nothing."""
        if self._keeper is None or self._keeper.done():
            self._keeper = self._spawn(self._keep_turns(), "chat-keeper")

    async def stop(self) -> None:
        """Cancel every task and wait for it. Other nodes take over the turns that ran."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def asked(self, run: UUID, manager: Manager) -> None:
        """Claim the user's queued turns. If `run` runs here, mark it as in flight on the socket that asked."""
        self._askers[run] = manager
        if len(self._askers) > ASKERS_REMEMBERED:  # the oldest was probably claimed by another node
            del self._askers[next(iter(self._askers))]
        self._claim_soon(manager.user_id)

    def cancelled(self) -> None:
        """Stop turns that are marked as cancelled, here and on the other nodes."""
        self._stop_soon()
        self._hub.bus.ring(None, CANCEL)

    def forget(self, manager: Manager) -> None:
        """Forget a socket that has ended. Its turns still run."""
        for run in [run for run, asker in self._askers.items() if asker is manager]:
            del self._askers[run]

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("chat_task_failed", exc_info=error, extra={"task": task.get_name()})

    # Stopping

    def _stop_soon(self) -> None:
        if self._running:
            self._spawn(self._stop_runs(), "chat-stop")

    async def _stop_runs(self) -> None:
        under_way = {running.turn.run: running for running in self._running.values()}
        try:
            attempts = {run: running.turn.attempt for run, running in under_way.items()}
            for run in await in_database(turn_rows.runs_to_stop, attempts):
                under_way[run].stop()
        except (DatabaseError, TimeoutError) as error:  # the keeper tries again
            logger.warning("chat_cancel_not_read", extra={"error": str(error)})

    # Claiming

    def _claim_soon(self, user_id: Any) -> None:
        self._spawn(self._claim(user_id), f"chat-claim {user_id}")

    async def _claim(self, user_id: Any) -> None:
        try:
            while (node := current_node()) is None or (node.id is not None and not node.leaving):
                turn = await in_database(turn_rows.claim, user_id, None if node is None else node.id)
                if turn is None:
                    return
                self._spawn(self._run(turn), f"chat-turn {turn.run}")
        except (DatabaseError, TimeoutError) as error:  # the keeper tries again
            logger.warning("chat_claim_failed", extra={"user": str(user_id), "error": str(error)})

    async def _keep_turns(self) -> None:
        while True:
            try:
                await self._keep_once()
            except (DatabaseError, TimeoutError) as error:
                logger.warning("chat_keeper_retries", extra={"error": str(error)})
            except Exception:  # the keeper must run for as long as the process
                logger.exception("chat_keeper_failed")
            self._stop_soon()  # the bell of a cancellation may be lost
            await asyncio.sleep(limits.KEEPER_SECONDS * random.uniform(0.8, 1.2))

    async def _keep_once(self) -> None:
        node = current_node()
        here, under_way = (None if node is None else node.id), [running.turn.run for running in self._running.values()]
        requeue = partial(turn_rows.requeue_abandoned, here=here, under_way=under_way)
        ended, users = await in_database(lambda: requeue(database.now()))
        for turn in ended:
            self.send_end(turn)
            logger.warning("chat_turn_ended_for_a_lost_node", extra={"run": str(turn.run)})
        for user_id in users:
            self._claim_soon(user_id)

    def send_end(self, turn: Ended) -> None:
        """Send the answer and the end of a turn that ended without its agent."""
        self._hub.message(turn.user_id, turn.message)
        self._relay.send_end(turn)

    # Running

    async def _run(self, turn: Claimed) -> None:
        asker = self._askers.pop(turn.run, None)
        earlier = self._running.get(turn.conversation)
        if earlier is not None:
            earlier.stop()  # another node took this attempt over, and this process has not noticed yet
        running = self._running[turn.conversation] = RunningTurn(turn, self._relay.send)
        self._relay.announce(running)
        try:
            with nullcontext() if asker is None or asker.closing else asker.turn():
                running.event(STARTED)
                text, failure = await AnswerTask(self.agent, running, asker, self._tasks).outcome()
                ended = await self._finish(running, text, failure)
            if ended is not None:
                self._hub.message(turn.user_id, ended.message)
                took, message = running.milliseconds(), ended.message
                running.event(COMPLETED, text=message.text, seq=message.seq, duration_ms=took, success=ended.success)
        finally:
            self._relay.forget(running)
            if self._running.get(turn.conversation) is running:
                del self._running[turn.conversation]
        self._claim_soon(turn.user_id)

    async def _finish(self, running: RunningTurn, text: str, failure: str) -> Ended | None:
        """Store the answer. Returns None if another attempt replaced this one, or the database can't be reached; then a
        node requeues the turn later.
        """
        turn, steps = running.turn, running.steps
        for delay in (*FINISH_DELAYS, None):
            try:
                return await in_database(turn_rows.finish, turn.run, turn.attempt, text, failure=failure, steps=steps)
            except (*NOT_NOW, TimeoutError) as error:
                logger.warning("chat_answer_not_stored", extra={"run": str(turn.run), "error": str(error)})
            except Exception as error:  # the answer itself can't be stored
                logger.exception("chat_turn_failed", extra={"run": str(turn.run)})
                text, failure, steps = turn_rows.APOLOGY, repr(error), []
            if delay is not None:
                await asyncio.sleep(delay)
        return None
