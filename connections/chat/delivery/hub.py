"""The hub: one per node. It gives messages and agent events to the sockets of their user.

A node rings the others when a message is committed, and they read its row. If a bell is lost, a node finds the message
when it catches up, a beat later. A socket gets each message once and in order: gaps are filled from the rows.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Coroutine
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseError

from connections import database
from connections.bus import Bus
from connections.chat import messages
from connections.chat.delivery.subscriber import Subscriber
from connections.chat.executors import in_database
from connections.chat.messages import StoredMessage
from connections.chat.turn_events import Events
from connections.websocket.manager import Manager

logger = logging.getLogger(__name__)

TOPIC = "conversation"
CATCH_UP_SECONDS = 2.0  # between two looks for messages whose bell was lost: a beat on the defaults
OVERLAP_SECONDS = 10.0  # a change may be committed this much later than its time says: a call has 8 s


class Hub:
    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.show_turn: Callable[[Subscriber, UUID], None] = lambda subscriber, conversation: None
        self._subscribers: dict[str, set[Subscriber]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._catching_up: asyncio.Task[None] | None = None
        bus.subscribe(TOPIC, self._heard)

    def start(self) -> None:
        """Catch up with lost bells from now on. A second call does nothing."""
        if self._catching_up is None or self._catching_up.done():
            self._catching_up = self._spawn(self._catch_up(), "chat-catch-up")

    def attach(self, manager: Manager, since: datetime) -> Subscriber:
        """Deliver to this socket. It gets every message younger than `since`, its admission, also if a bell is lost."""
        subscriber = Subscriber(manager, since, self.show_turn)
        self._subscribers.setdefault(str(subscriber.user_id), set()).add(subscriber)
        return subscriber

    def detach(self, subscriber: Subscriber) -> None:
        subscriber.close()
        key = str(subscriber.user_id)
        same = self._subscribers.get(key, set())
        same.discard(subscriber)
        if not same:
            self._subscribers.pop(key, None)

    def holds(self, user_id: Any) -> bool:
        """Whether the user has sockets on this node."""
        return str(user_id) in self._subscribers

    def message(self, user_id: Any, message: StoredMessage) -> None:
        """Send a committed message to all sockets of the user, here and on the other nodes."""
        self._tell(self._of(user_id), message)
        ids = {"user": str(user_id), "conversation": str(message.conversation), "seq": message.seq}
        self.bus.ring(None, TOPIC, ids)

    def events(self, user_id: Any, events: Events) -> bool:
        """Send agent events to the user's sockets here. Returns False if one of them lacks the events before."""
        told = [subscriber.turn_cursors.events(events) for subscriber in self._of(user_id)]
        return all(told)

    def turn_ended(self, user_id: Any, run: UUID, text: str) -> None:
        """Send the end of a turn to the user's sockets on this node."""
        for subscriber in self._of(user_id):
            subscriber.turn_cursors.ended(run, text)

    def _of(self, user_id: Any) -> Collection[Subscriber]:
        return self._subscribers.get(str(user_id), ())

    def _tell(self, subscribers: Collection[Subscriber], message: StoredMessage) -> None:
        if subscribers:
            text = message.as_frame()
            for subscriber in subscribers:
                subscriber.offer(message, text)

    def _heard(self, ids: dict[str, Any]) -> None:
        """Handle a bell, which may be this node's own: then its subscribers have the message already."""
        subscribers = self._of(ids.get("user"))
        if not subscribers:
            return
        try:
            conversation, seq = UUID(ids["conversation"]), int(ids["seq"])
        except (KeyError, TypeError, ValueError):
            logger.warning("chat_bell_unreadable", extra={"bell": ids})
            return
        self._read_soon(
            [subscriber for subscriber in subscribers if not subscriber.knows(conversation, seq)], conversation, seq
        )

    def _read_soon(self, subscribers: list[Subscriber], conversation: UUID, seq: int) -> None:
        if subscribers:
            self._spawn(self._read(subscribers, conversation, seq), f"chat-read {conversation}")

    async def _read(self, subscribers: list[Subscriber], conversation: UUID, seq: int) -> None:
        """Read one message and send it to these subscribers, all of one user."""
        try:
            message = await in_database(messages.message, subscribers[0].user_id, conversation, seq)
            if message is not None:
                self._tell(subscribers, message)
        except messages.NotFound:
            logger.info("chat_bell_for_nothing", extra={"conversation": str(conversation)})
        except Exception:
            logger.exception("chat_read_failed", extra={"conversation": str(conversation)})

    async def _catch_up(self) -> None:
        """Find stored messages that were not sent here, because their bell was lost. The cost grows with what
        changed, not with how many are connected.
        """
        looked_at: datetime | None = None
        while True:
            try:
                looked_at = await self._catch_up_once(looked_at)
            except (DatabaseError, TimeoutError) as error:  # the next one begins where this one did
                logger.warning("chat_catch_up_retries", extra={"error": str(error)})
            except Exception:  # the loop must run for as long as the process
                logger.exception("chat_catch_up_failed")
            await asyncio.sleep(CATCH_UP_SECONDS * random.uniform(0.8, 1.2))

    async def _catch_up_once(self, last: datetime | None) -> datetime | None:
        if not self._subscribers:
            return None
        now = await in_database(database.now)
        if last is not None:
            since = last - timedelta(seconds=OVERLAP_SECONDS)
            for changed in await in_database(messages.changed_since, since):
                lacking = [
                    subscriber
                    for subscriber in self._of(changed.user_id)
                    if subscriber.lacks(changed.conversation, changed.last_seq, changed.at)
                ]
                self._read_soon(lacking, changed.conversation, changed.last_seq)
        return now

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
