"""Deliver a conversation's messages to one socket: each once and in order."""

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from connections.chat import messages
from connections.chat.delivery.turn_cursors import TurnCursors
from connections.chat.executors import in_database
from connections.chat.limits import PAGE_OF_MESSAGES
from connections.chat.messages import StoredMessage
from connections.chat.states import Role
from connections.websocket.manager import Manager

logger = logging.getLogger(__name__)

CURSORS = 200  # conversations followed per socket; beyond these a message may come twice, which the page ignores
BEHIND_SECONDS = 0.5  # between two attempts to send to a client that is too far behind
AGAIN_SECONDS = 2.0  # until the rows are read again after an error
ANSWERED_SECONDS = 2.0  # after an answer; if the end of its turn has not come by then, it is lost

Send = Callable[[str], Awaitable[object]]


class Subscriber:
    """`since` is when the socket was admitted, on the database's clock. `show_turn` sends where the turn of a
    conversation is, or how it ended. Use it on the event loop.
    """

    def __init__(
        self, manager: Manager, since: datetime | None, show_turn: "Callable[[Subscriber, UUID], None]"
    ) -> None:
        self.manager = manager
        self.user_id: Any = manager.user_id
        self.since = since
        self.turn_cursors = TurnCursors(manager.deliver, self._behind)
        self._show_turn = show_turn
        self._told: OrderedDict[UUID, int] = OrderedDict()
        # Conversations being read from the rows, with the highest seq announced meanwhile.
        self._filling: dict[UUID, int] = {}
        self._reading = asyncio.Lock()  # one page of rows in memory, and no conversation read twice at once
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def offer(self, message: StoredMessage, text: str) -> None:
        """Send a message, unless the client has it, and the ones before it that are younger than the socket."""
        conversation, seq = message.conversation, message.seq
        if conversation in self._filling:
            self._filling[conversation] = max(seq, self._filling[conversation])
            return
        told = self._told.get(conversation)
        if told is None:
            previous = message.previous_at
            if seq > 1 and self.since is not None and (previous is None or previous > self.since):
                self._fill_later(conversation, None)
                return
            told = seq - 1
        if seq <= told:
            return
        if seq == told + 1 and self.manager.deliver(text):
            self._note(conversation, seq)
        else:
            self._fill_later(conversation, told)
        if message.role == Role.ASSISTANT and self.turn_cursors.open_in(conversation):
            asyncio.get_running_loop().call_later(ANSWERED_SECONDS, self._ask_for_the_end, conversation)

    def _ask_for_the_end(self, conversation: UUID) -> None:
        if not self._closed and self.turn_cursors.open_in(conversation):
            self._show_turn(self, conversation)

    def _behind(self, conversation: UUID) -> None:
        """A client missed some of a turn: once it has caught up, send the turn from its beginning."""
        told = self._told.get(conversation)
        if told is not None and conversation not in self._filling:
            self._fill_later(conversation, told)

    def knows(self, conversation: UUID, seq: int) -> bool:
        return self._told.get(conversation, 0) >= seq

    def lacks(self, conversation: UUID, seq: int, at: datetime) -> bool:
        """Whether the socket should have this message, stored at `at`, and does not. Messages that are older than the
        socket, in a conversation of which it got nothing yet, are left to a resume.
        """
        if conversation in self._told:
            return not self.knows(conversation, seq)
        return self.since is not None and at > self.since

    async def resume(self, conversation: UUID, after_seq: int, send: Send) -> int:
        """Send everything above `after_seq`, in order; live messages wait meanwhile. Returns the last seq.

        Raises NotFound and the database's errors.
        """
        self._filling.setdefault(conversation, 0)
        try:
            async with self._reading:
                return await self._read(conversation, after_seq, send)
        finally:
            self._filling.pop(conversation, None)

    async def _read(self, conversation: UUID, after_seq: int, send: Send) -> int:
        self._filling.setdefault(conversation, 0)  # the read before this one has dropped the entry
        # If the client names a number beyond the end, go on from the end.
        last = min(after_seq, await in_database(messages.last_seq, self.user_id, conversation))
        while True:
            page = await in_database(messages.messages_after, self.user_id, conversation, last, PAGE_OF_MESSAGES)
            for message in page:
                await send(message.as_frame())
                last = message.seq
            # Nothing is awaited from here on, so later messages are sent as they come.
            if len(page) < PAGE_OF_MESSAGES and self._filling.get(conversation, 0) <= last:
                break
        self._note(conversation, max(last, self._told.get(conversation, 0)))
        self._filling.pop(conversation, None)
        return last

    def _note(self, conversation: UUID, seq: int) -> None:
        self._told[conversation] = seq
        self._told.move_to_end(conversation)
        if len(self._told) > CURSORS:
            self._told.popitem(last=False)

    def _fill_later(self, conversation: UUID, after_seq: int | None) -> None:
        """Send what the rows have above `after_seq`; with None, what is younger than the socket."""
        if self._closed or self.manager.closing:
            return
        self._filling[conversation] = after_seq or 0
        fill = self._fill(conversation, after_seq)
        task = asyncio.get_running_loop().create_task(fill, name=f"chat-fill {self.manager.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fill(self, conversation: UUID, after_seq: int | None) -> None:
        while not self._closed and not self.manager.closing:
            try:
                if after_seq is None and self.since is not None:
                    after_seq = await in_database(messages.seq_at, self.user_id, conversation, self.since)
                after_seq = max(
                    after_seq or 0, self._told.get(conversation, 0)
                )  # a resume may have sent some meanwhile
                await self.resume(conversation, after_seq, self._deliver)
                self._show_turn(self, conversation)
                return
            except (ConnectionError, messages.NotFound):
                break  # the socket is closing: the client resumes when it is back
            except Exception as error:  # noqa: BLE001 - whatever it is: without these rows the client misses something
                logger.warning("chat_fill_failed", extra={"conversation": str(conversation), "error": repr(error)})
            self._filling[conversation] = self._filling.get(conversation, 0)
            await asyncio.sleep(AGAIN_SECONDS * random.uniform(0.8, 1.2))
        self._filling.pop(conversation, None)

    async def _deliver(self, text: str) -> None:
        while not self.manager.deliver(text):
            if self._closed or self.manager.closing:
                raise ConnectionError("the socket is closing")
            await asyncio.sleep(BEHIND_SECONDS)

    def close(self) -> None:
        self._closed = True
        for task in self._tasks:
            task.cancel()
