"""Agent turns of this process: each is a task of its own, so closing a socket stops no turn."""

import asyncio
import logging
import random
from collections.abc import Coroutine
from contextlib import nullcontext
from functools import partial
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError

from connections import database
from connections.chat import limits
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
ASKERS = 1000  # questions whose socket is remembered until they are answered here
FINISH_DELAYS = (
    0.2,
    0.5,
    1.0,
    2.0,
    4.0,
)  # seconds between attempts to store an answer


class TurnRunner:
    def __init__(self, hub: Hub, agent: Agent) -> None:
        self.agent = agent
        self._hub = hub
        self._live: dict[UUID, RunningTurn] = {}  # by conversation
        self._relay = Relay(hub, self._live)
        self._askers: dict[UUID, Manager] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        hub.bus.subscribe(CANCEL, lambda _: self._stop_soon())

    def start(self) -> None:
        """Take up abandoned turns from now on. A second call does nothing."""
        if self._keeper is None or self._keeper.done():
            self._keeper = self._spawn(self._keep(), "chat-keeper")

    async def stop(self) -> None:
        """Cancel every task and wait for it. Other nodes take over the turns that ran."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def asked(self, run: UUID, manager: Manager) -> None:
        """Have a stored question answered, and mark a turn in flight on the socket that asked."""
        self._askers[run] = manager
        if len(self._askers) > ASKERS:  # another node answers the oldest, or nobody does
            del self._askers[next(iter(self._askers))]
        self._claim_soon(manager.user_id)

    def cancelled(self) -> None:
        """Have the node that runs a cancelled turn stop it."""
        self._stop_soon()
        self._hub.bus.ring(None, CANCEL)

    def forget(self, manager: Manager) -> None:
        """Forget a socket that has ended; its questions are answered all the same."""
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
            for run in await in_database(turn_rows.unwanted, attempts):
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

    async def _keep(self) -> None:
        while True:
            try:
                await self._keep_once()
            except (DatabaseError, TimeoutError) as error:
                logger.warning("chat_keeper_retries", extra={"error": str(error)})
            except Exception:  # the keeper must run for as long as the process
                logger.exception("chat_keeper_failed")
            self._stop_soon()  # a bell may be lost
            await asyncio.sleep(limits.KEEPER_SECONDS * random.uniform(0.8, 1.2))

    async def _keep_once(self) -> None:
        node = current_node()
        here, under_way = (None if node is None else node.id), [live.turn.run for live in self._live.values()]
        requeue = partial(turn_rows.requeue_abandoned, here=here, under_way=under_way)
        ended, users = await in_database(lambda: requeue(database.now()))
        for turn in ended:
            self.tell_end(turn)
            logger.warning("chat_turn_ended_for_a_lost_node", extra={"run": str(turn.run)})
        for user_id in users:
            self._claim_soon(user_id)

    def tell_end(self, turn: Ended) -> None:
        """Send the end of a turn that was ended without running to its end."""
        self._hub.message(turn.user_id, turn.message)
        self._relay.ended(turn)

    # Running

    async def _run(self, turn: Claimed) -> None:
        asker = self._askers.pop(turn.run, None)
        earlier = self._live.get(turn.conversation)
        if earlier is not None:
            earlier.stop()  # another node took this attempt over, and the process has not noticed yet
        live = self._live[turn.conversation] = RunningTurn(turn, self._relay.tell)
        self._relay.began(live)
        try:
            with nullcontext() if asker is None or asker.closing else asker.turn():
                live.event(STARTED)
                text, failure = await AnswerTask(self.agent, live, asker, self._tasks).outcome()
                ended = await self._finish(live, text, failure)
            if ended is not None:
                self._hub.message(turn.user_id, ended.message)
                took, message = live.milliseconds(), ended.message
                live.event(COMPLETED, text=message.text, seq=message.seq, duration_ms=took, success=ended.success)
        finally:
            self._relay.over(live)
            if self._live.get(turn.conversation) is live:
                del self._live[turn.conversation]
        self._claim_soon(turn.user_id)

    async def _finish(self, live: RunningTurn, text: str, failure: str) -> Ended | None:
        """Store the answer. None if another attempt replaced this one, or the database can't be reached: then a node
        takes the turn up later.
        """
        turn, steps = live.turn, live.steps
        for delay in (*FINISH_DELAYS, None):
            try:
                return await in_database(turn_rows.finish, turn.run, turn.attempt, text, failure=failure, steps=steps)
            except (OperationalError, InterfaceError, TimeoutError) as error:
                logger.warning("chat_answer_not_stored", extra={"run": str(turn.run), "error": str(error)})
            except Exception as error:  # the answer itself can't be stored
                logger.exception("chat_turn_failed", extra={"run": str(turn.run)})
                text, failure, steps = turn_rows.APOLOGY, repr(error), []
            if delay is not None:
                await asyncio.sleep(delay)
        return None
