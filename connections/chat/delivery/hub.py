"""The hub: one per node. It gives messages and agent events to the sockets of their user.

Nodes tell each other by a bell on the bus, and read the rows; what a lost bell announced is found a beat later. A
socket is told each message once and in order: a gap, or a client that was too far behind, is filled from the rows.
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
from connections.chat.delivery.subscriber import Reader
from connections.chat.executors import in_database
from connections.chat.messages import StoredMessage
from connections.chat.turn_events import Events
from connections.websocket.manager import Manager

logger = logging.getLogger(__name__)

TOPIC = "conversation"
LOOK_SECONDS = 2.0  # how often lost bells are made good: a beat on the defaults
OVERLAP_SECONDS = 10.0  # a change may be committed that much later than it says: a call has 8 s


class Hub:
    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.show_turn: Callable[[Reader, UUID], None] = lambda reader, conversation: None
        self._readers: dict[str, set[Reader]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        bus.subscribe(TOPIC, self._heard)

    def start(self) -> None:
        """Make lost bells good, from now on. Does nothing the second time."""
        if self._looking is None or self._looking.done():
            self._looking = self._spawn(self._look(), "chat-look")

    def attach(self, manager: Manager, since: datetime | None) -> Reader:
        """`since`: when it was admitted. What is younger is told, whatever becomes of the bells."""
        reader = Reader(manager, since, self.show_turn)
        self._readers.setdefault(str(reader.user_id), set()).add(reader)
        return reader

    def detach(self, reader: Reader) -> None:
        reader.close()
        key = str(reader.user_id)
        same = self._readers.get(key, set())
        same.discard(reader)
        if not same:
            self._readers.pop(key, None)

    def holds(self, user_id: Any) -> bool:
        """Whether the user has sockets on this node."""
        return str(user_id) in self._readers

    def message(self, user_id: Any, message: StoredMessage) -> None:
        """Tell all sockets of the user, here and on the other nodes, of a message that is committed."""
        self._tell(self._of(user_id), message)
        ids = {"user": str(user_id), "conversation": str(message.conversation), "seq": message.seq}
        self.bus.ring(None, TOPIC, ids)

    def events(self, user_id: Any, events: Events) -> bool:
        """Tell the user's sockets on this node of agent events. False if one of them lacks what came before."""
        told = [reader.shown.events(events) for reader in self._of(user_id)]
        return all(told)

    def turn_ended(self, user_id: Any, run: UUID, text: str) -> None:
        """Tell the user's sockets on this node the end of a turn."""
        for reader in self._of(user_id):
            reader.shown.ended(run, text)

    def _of(self, user_id: Any) -> Collection[Reader]:
        return self._readers.get(str(user_id), ())

    def _tell(self, readers: Collection[Reader], message: StoredMessage) -> None:
        if readers:
            text = message.as_frame()
            for reader in readers:
                reader.offer(message, text)

    def _heard(self, ids: dict[str, Any]) -> None:
        """A bell from a node, perhaps from this one, whose readers know already."""
        readers = self._of(ids.get("user"))
        if not readers:
            return
        try:
            conversation, seq = UUID(ids["conversation"]), int(ids["seq"])
        except (KeyError, TypeError, ValueError):
            logger.warning("chat_bell_unreadable", extra={"bell": ids})
            return
        self._read_soon([reader for reader in readers if not reader.knows(conversation, seq)], conversation, seq)

    def _read_soon(self, readers: list[Reader], conversation: UUID, seq: int) -> None:
        if readers:
            self._spawn(self._read(readers, conversation, seq), f"chat-read {conversation}")

    async def _read(self, readers: list[Reader], conversation: UUID, seq: int) -> None:
        """Tell these readers, all of one user, of a message that is in its row."""
        try:
            message = await in_database(messages.message, readers[0].user_id, conversation, seq)
            if message is not None:
                self._tell(readers, message)
        except messages.NotFound:
            logger.info("chat_bell_for_nothing", extra={"conversation": str(conversation)})
        except Exception:
            logger.exception("chat_read_failed", extra={"conversation": str(conversation)})

    async def _look(self) -> None:
        """Look for what was stored and not told here, whatever became of the bell. The cost is in what changed, not in
        how many are connected.
        """
        looked_at: datetime | None = None
        while True:
            try:
                looked_at = await self._look_once(looked_at)
            except (DatabaseError, TimeoutError) as error:  # the next look begins where this one did
                logger.warning("chat_look_waits", extra={"error": str(error)})
            except Exception:  # lost bells are made good for as long as the process lives
                logger.exception("chat_look_failed")
            await asyncio.sleep(LOOK_SECONDS * random.uniform(0.8, 1.2))

    async def _look_once(self, last: datetime | None) -> datetime | None:
        if not self._readers:
            return None
        now = await in_database(database.now)
        if last is not None:
            since = last - timedelta(seconds=OVERLAP_SECONDS)
            for changed in await in_database(messages.changed_since, since):
                lacking = [
                    reader
                    for reader in self._of(changed.user_id)
                    if reader.lacks(changed.conversation, changed.last_seq, changed.at)
                ]
                self._read_soon(lacking, changed.conversation, changed.last_seq)
        return now

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
