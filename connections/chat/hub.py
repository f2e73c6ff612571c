"""The hub: one per process. It gives messages and agent events to the sockets of their user.

Nodes tell each other by a bell on the bus, and read the rows; a lost bell is made good by the next message, or
by a resume. A socket is told each message once and in order: a gap, or a client that was too far behind, is
filled from the rows.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from connections.bus import bus
from connections.chat import store
from connections.chat.limits import PAGE_OF_MESSAGES
from connections.chat.store import StoredMessage
from connections.chat.threads import in_database
from connections.manager import Manager

logger = logging.getLogger(__name__)

TOPIC = "conversation"
FIRST_EVENT, LAST_EVENT = "agent_started", "agent_completed"
CURSORS = 200  # conversations a socket is followed in; whoever looks at more gets a message twice, which is harmless
BEHIND_SECONDS = 0.5  # how often a client that is too far behind is tried again

Send = Callable[[str], Awaitable[object]]


class Reader:
    """One socket of ours, and how far it has been told of each conversation. Event loop only."""

    def __init__(self, manager: Manager) -> None:
        self.manager = manager
        self.user_id: Any = manager.user_id
        self._told: OrderedDict[UUID, int] = OrderedDict()
        self._runs: set[UUID] = set()  # turns whose beginning it was told, and whose end not yet
        self._filling: dict[UUID, int] = {}  # conversations being read from the rows: the highest seq seen meanwhile
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def offer(self, message: StoredMessage, text: str) -> None:
        """Tell the client of a message, unless it knows."""
        conversation, seq = message.conversation, message.seq
        if conversation in self._filling:
            self._filling[conversation] = max(seq, self._filling[conversation])
            return
        told = self._told.get(conversation, seq - 1)
        if seq <= told:
            return
        if seq == told + 1 and self.manager.deliver(text):
            self._note(conversation, seq)
        else:
            self._fill_later(conversation, told)

    def event(self, kind: str, run: UUID, text: str) -> None:
        """Tell of an agent event. Whoever missed the beginning of a turn is told nothing of it, until a resume shows
        it from the beginning; so no client ever gets half a turn.
        """
        if kind == FIRST_EVENT:
            if self.manager.deliver(text):
                self._runs.add(run)
        elif run in self._runs:
            self.manager.deliver(text)
        if kind == LAST_EVENT:
            self._runs.discard(run)

    def follows(self, run: UUID) -> bool:
        return run in self._runs

    def knows(self, conversation: UUID, seq: int) -> bool:
        return self._told.get(conversation, 0) >= seq

    async def resume(self, conversation: UUID, after_seq: int, send: Send) -> int:
        """Send everything above `after_seq`, in order; live messages wait meanwhile. Returns the last seq.

        Raises NotFound and the database's errors.
        """
        self._filling.setdefault(conversation, 0)
        last = after_seq
        try:
            # A client that says more than there is goes on from the end.
            last = min(last, await in_database(store.last_seq, self.user_id, conversation))
            while True:
                page = await in_database(store.messages_after, self.user_id, conversation, last, PAGE_OF_MESSAGES)
                for message in page:
                    await send(message.as_frame())
                    last = message.seq
                # Nothing is awaited from here to the end, so what comes now is told as it comes.
                if len(page) < PAGE_OF_MESSAGES and self._filling.get(conversation, 0) <= last:
                    break
        finally:
            self._filling.pop(conversation, None)
        self._note(conversation, last)
        return last

    def _note(self, conversation: UUID, seq: int) -> None:
        self._told[conversation] = seq
        self._told.move_to_end(conversation)
        if len(self._told) > CURSORS:
            self._told.popitem(last=False)

    def _fill_later(self, conversation: UUID, after_seq: int) -> None:
        if self._closed or self.manager.closing:
            return
        self._filling[conversation] = after_seq + 1
        task = asyncio.get_running_loop().create_task(
            self._fill(conversation, after_seq), name=f"chat-fill {self.manager.id}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fill(self, conversation: UUID, after_seq: int) -> None:
        try:
            await self.resume(conversation, after_seq, self._deliver)
        except ConnectionError:
            self._filling.pop(conversation, None)  # the socket is closing: the client resumes when it is back
        except Exception:
            logger.exception("chat_fill_failed", extra={"conversation": str(conversation)})

    async def _deliver(self, text: str) -> None:
        while not self.manager.deliver(text):
            if self._closed or self.manager.closing:
                raise ConnectionError("the socket is closing")
            await asyncio.sleep(BEHIND_SECONDS)

    def close(self) -> None:
        self._closed = True
        for task in self._tasks:
            task.cancel()


class Hub:
    def __init__(self) -> None:
        self._readers: dict[str, set[Reader]] = {}
        self._reading: set[asyncio.Task[None]] = set()
        bus.subscribe(TOPIC, self._heard)

    def attach(self, manager: Manager) -> Reader:
        reader = Reader(manager)
        self._readers.setdefault(str(reader.user_id), set()).add(reader)
        return reader

    def detach(self, reader: Reader) -> None:
        reader.close()
        key = str(reader.user_id)
        same = self._readers.get(key, set())
        same.discard(reader)
        if not same:
            self._readers.pop(key, None)

    def message(self, user_id: Any, message: StoredMessage) -> None:
        """Tell all sockets of the user, here and on the other nodes, of a message that is committed."""
        self._tell(user_id, message)
        ids = {"user": str(user_id), "conversation": str(message.conversation), "seq": message.seq}
        bus.ring(None, TOPIC, ids)

    def event(self, user_id: Any, kind: str, run: UUID, text: str) -> None:
        """An agent event, to the sockets on this node; best effort, since the answer is a message as well."""
        for reader in self._readers.get(str(user_id), ()):
            reader.event(kind, run, text)

    def _tell(self, user_id: Any, message: StoredMessage) -> None:
        readers = self._readers.get(str(user_id))
        if readers:
            text = message.as_frame()
            for reader in readers:
                reader.offer(message, text)

    def _heard(self, ids: dict[str, Any]) -> None:
        """A bell from a node, perhaps from this one, whose readers know already."""
        readers = self._readers.get(str(ids.get("user")))
        if not readers:
            return
        try:
            conversation, seq = UUID(ids["conversation"]), int(ids["seq"])
        except (KeyError, TypeError, ValueError):
            logger.warning("chat_bell_unreadable", extra={"bell": ids})
            return
        if all(reader.knows(conversation, seq) for reader in readers):
            return
        user_id = next(iter(readers)).user_id
        task = asyncio.get_running_loop().create_task(
            self._read(user_id, conversation, seq), name=f"chat-read {conversation}"
        )
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _read(self, user_id: Any, conversation: UUID, seq: int) -> None:
        try:
            for message in await in_database(store.messages_after, user_id, conversation, seq - 1, 1):
                self._tell(user_id, message)
        except store.NotFound:
            logger.info("chat_bell_for_nothing", extra={"conversation": str(conversation)})
        except Exception:
            logger.exception("chat_read_failed", extra={"conversation": str(conversation)})


hub = Hub()
