"""The hub: each node has one. It delivers messages and agent events to the user's sockets on its node.

When a message is committed, its node rings the others, and they read its row. If a bell is lost, a node finds the
message when it catches up, a beat later. A socket gets each message once and in order: gaps are filled from the rows.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Coroutine
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseError

from connections.bus import Bus
from connections.chat import messages
from connections.chat.delivery.subscriber import Subscriber
from connections.chat.executors import in_database
from connections.chat.messages import StoredMessage
from connections.chat.turn_events import Events
from connections.websocket.manager import Manager

logger = logging.getLogger(__name__)

TOPIC = "conversation"
CATCH_UP_SECONDS = 2.0  # between two searches for messages whose bell was lost: a beat with the default settings
OVERLAP_SECONDS = 10.0  # between two rounds: by so much the clock of another server may be behind after a failover


class Hub:
    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.show_turn: Callable[[Subscriber, UUID], None] = lambda subscriber, conversation: None
        self._subscribers: dict[str, set[Subscriber]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._catching_up: asyncio.Task[None] | None = None
        bus.subscribe(TOPIC, self._on_bell)

    def start(self) -> None:
        """Start the task that catches up with lost bells. A second call does nothing."""
        if self._catching_up is None or self._catching_up.done():
            self._catching_up = self._spawn(self._catch_up(), "chat-catch-up")

    def attach(self, manager: Manager, since: datetime) -> Subscriber:
        """Deliver to this socket from now on. It gets every message stored after `since`, the time of its admission."""
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

    def has_sockets_of(self, user_id: Any) -> bool:
        """Whether the user has sockets on this node."""
        return str(user_id) in self._subscribers

    def message(self, user_id: Any, message: StoredMessage) -> None:
        """Send a committed message to all sockets of the user, here and on the other nodes."""
        self._offer(self._subscribers_of(user_id), message)
        ids = {"user": str(user_id), "conversation": str(message.conversation), "seq": message.seq}
        self.bus.ring(None, TOPIC, ids)

    def events(self, user_id: Any, events: Events) -> bool:
        """Send agent events to the user's sockets on this node. Returns False if one lacks the events before."""
        complete = [subscriber.turn_cursors.events(events) for subscriber in self._subscribers_of(user_id)]
        return all(complete)

    def turn_ended(self, user_id: Any, run: UUID, text: str) -> None:
        """Send the end of a turn to the user's sockets on this node."""
        for subscriber in self._subscribers_of(user_id):
            subscriber.turn_cursors.ended(run, text)

    def _subscribers_of(self, user_id: Any) -> Collection[Subscriber]:
        return self._subscribers.get(str(user_id), ())

    def _offer(self, subscribers: Collection[Subscriber], message: StoredMessage) -> None:
        if subscribers:
            text = message.as_frame()
            for subscriber in subscribers:
                subscriber.offer(message, text)

    def _on_bell(self, ids: dict[str, Any]) -> None:
        """Read the message that a bell announces, for subscribers that lack it. For this node's own bell, none does."""
        subscribers = self._subscribers_of(ids.get("user"))
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
                self._offer(subscribers, message)
        except messages.NotFound:
            logger.info("chat_bell_for_nothing", extra={"conversation": str(conversation)})
        except Exception:  # whatever it is, the sockets need this message
            logger.exception("chat_read_failed", extra={"conversation": str(conversation)})
            for subscriber in subscribers:
                subscriber.read_later(conversation, seq)

    async def _catch_up(self) -> None:
        """Find stored messages that were not sent here, because their bell was lost. The cost grows with the number of
        changed conversations, not with the number of sockets.
        """
        caught_up_at: datetime | None = None
        while True:
            try:
                caught_up_at = await self._catch_up_once(caught_up_at)
            except (DatabaseError, TimeoutError) as error:  # the next round covers the same time again
                logger.warning("chat_catch_up_retries", extra={"error": str(error)})
            except Exception:  # the loop must run for as long as the process
                logger.exception("chat_catch_up_failed")
            await asyncio.sleep(CATCH_UP_SECONDS * random.uniform(0.8, 1.2))

    async def _catch_up_once(self, last: datetime | None) -> datetime | None:
        """Search from where the round before ended, or at first from the oldest socket's admission. Returns where the
        next one begins: before every message that was not committed yet.
        """
        if not self._subscribers:
            return None
        if last is None:
            last = min(subscriber.since for same in self._subscribers.values() for subscriber in same)
        since = last - timedelta(seconds=OVERLAP_SECONDS)
        settled = await in_database(messages.settled_until)  # before the search, which may miss what commits meanwhile
        for changed in await in_database(messages.changed_since, since):
            lacking = [
                subscriber
                for subscriber in self._subscribers_of(changed.user_id)
                if subscriber.lacks(changed.conversation, changed.last_seq, changed.at)
            ]
            self._read_soon(lacking, changed.conversation, changed.last_seq)
        return settled

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
