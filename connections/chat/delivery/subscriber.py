"""Deliver a conversation's messages to one socket: each once and in order.

A message goes out in one of three ways. A live one is sent as it is offered, if it is the next one. What is missing
before it is read from the rows. A client's resume is sent what the socket was not sent yet. All three go by the same
`Sent`, one for each conversation; whoever reads rows holds the lock, and live messages of that conversation wait.
"""

import asyncio
import logging
import random
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from connections.chat import messages
from connections.chat.delivery.sent import Sent
from connections.chat.delivery.turn_cursors import TurnCursors
from connections.chat.executors import in_database
from connections.chat.limits import PAGE_OF_MESSAGES
from connections.chat.messages import StoredMessage
from connections.chat.states import Role
from connections.websocket.manager import Manager

logger = logging.getLogger(__name__)

FOLLOWED = 200  # conversations per socket; of one beyond these a message may come twice, which the page ignores
BEHIND_SECONDS = 0.5  # between two attempts to send to a client that is too far behind
AGAIN_SECONDS = 2.0  # until the rows are read again after an error
ANSWERED_SECONDS = 2.0  # after an answer; if the end of its turn has not come by then, it is lost

Send = Callable[[str], Awaitable[object]]


class Subscriber:
    """`since` is when the socket was admitted, on the database's clock. `show_turn` sends where the turn of a
    conversation is, or how it ended. Use it on the event loop.
    """

    def __init__(self, manager: Manager, since: datetime, show_turn: "Callable[[Subscriber, UUID], None]") -> None:
        self.manager = manager
        self.user_id: Any = manager.user_id
        self.since = since
        self.turn_cursors = TurnCursors(manager.deliver, self._behind)
        self._show_turn = show_turn
        self._sent: OrderedDict[UUID, Sent] = OrderedDict()
        self._reads: Counter[UUID] = Counter()  # reads of a conversation's rows that wait or are under way
        self._offered: dict[UUID, int] = {}  # the highest seq that was offered while its conversation was read
        self._reading = (
            asyncio.Lock()
        )  # so that one page of rows is in memory, and no conversation is read twice at once
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    # Live messages

    def offer(self, message: StoredMessage, text: str) -> None:
        """Send a message, unless the socket was sent it, and the ones before it that are younger than the socket."""
        conversation, seq = message.conversation, message.seq
        if conversation in self._reads:
            self._offered[conversation] = max(seq, self._offered.get(conversation, 0))
            return
        sent = self._sent.get(conversation)
        if sent is None:
            previous = message.previous_at
            if seq > 1 and (previous is None or previous > self.since):
                self._read_soon(conversation)
                return
            sent = self._follow(conversation, seq - 1)
        if seq <= sent.upto:
            return
        if seq == sent.upto + 1 and self.manager.deliver(text):
            self._note(conversation, sent, seq)
        else:
            self._read_soon(conversation)
        if message.role == Role.ASSISTANT and self.turn_cursors.open_in(conversation):
            asyncio.get_running_loop().call_later(ANSWERED_SECONDS, self._ask_for_the_end, conversation)

    def _ask_for_the_end(self, conversation: UUID) -> None:
        if not self._closed and self.turn_cursors.open_in(conversation):
            self._show_turn(self, conversation)

    def _behind(self, conversation: UUID) -> None:
        """A client missed some of a turn: once it has caught up, send the turn from its beginning."""
        if conversation in self._sent and conversation not in self._reads:
            self._read_soon(conversation, BEHIND_SECONDS)

    def knows(self, conversation: UUID, seq: int) -> bool:
        sent = self._sent.get(conversation)
        return sent is not None and sent.upto >= seq

    def lacks(self, conversation: UUID, seq: int, at: datetime) -> bool:
        """Whether the socket should have this message, stored at `at`, and does not. Messages that are older than the
        socket, in a conversation of which it got nothing yet, are left to a resume.
        """
        if conversation in self._sent:
            return not self.knows(conversation, seq)
        return at > self.since

    # What is read from the rows

    async def resume(self, conversation: UUID, after_seq: int, send: Send) -> int:
        """Send what the socket was not sent yet above `after_seq`, in order. Returns the last seq.

        Raises NotFound and the database's errors. What was sent before the error is not sent again.
        """
        self._reads[conversation] += 1
        try:
            async with self._reading:
                sent = self._sent.get(conversation)
                if sent is None:
                    # If the client names a number beyond the end, go on from the end.
                    last = await in_database(messages.last_seq, self.user_id, conversation)
                    sent = self._follow(conversation, min(after_seq, last))
                below = after_seq
                while gap := sent.next_gap(below):
                    page = await self._send_page(conversation, sent, gap.start - 1, gap.stop - 1, send)
                    below = page[-1].seq if len(page) == PAGE_OF_MESSAGES else gap.stop - 1
                await self._go_on(conversation, sent, send)
                return sent.upto
        finally:
            self._read_done(conversation)

    async def _go_on(self, conversation: UUID, sent: Sent, send: Send) -> None:
        """Send everything above `upto`. After the last page nothing is awaited, so later messages come live."""
        while True:
            self._offered.pop(conversation, None)  # it was committed, so the page has it
            page = await self._send_page(conversation, sent, sent.upto, None, send)
            if len(page) < PAGE_OF_MESSAGES and self._offered.get(conversation, 0) <= sent.upto:
                return

    async def _send_page(
        self, conversation: UUID, sent: Sent, after: int, upto: int | None, send: Send
    ) -> list[StoredMessage]:
        page = await in_database(messages.messages_after, self.user_id, conversation, after, PAGE_OF_MESSAGES, upto)
        for message in page:
            await send(message.as_frame())
            self._note(conversation, sent, message.seq)
        return page

    def _read_done(self, conversation: UUID) -> None:
        """If a read failed, read again what was offered meanwhile."""
        self._reads[conversation] -= 1
        if self._reads[conversation]:
            return
        del self._reads[conversation]
        offered = self._offered.pop(conversation, 0)
        if offered and not self.knows(conversation, offered):
            self._read_soon(conversation)

    def _read_soon(self, conversation: UUID, pause: float = 0.0) -> None:
        """In `pause` seconds, send what the rows have above what was sent, or what is younger than the socket."""
        if self._closed or self.manager.closing:
            return
        self._reads[conversation] += 1
        read = self._read(conversation, pause)
        task = asyncio.get_running_loop().create_task(read, name=f"chat-rows {self.manager.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, conversation: UUID, pause: float) -> None:
        try:
            while True:
                await asyncio.sleep(pause)
                if self._closed or self.manager.closing:
                    return
                try:
                    await self._read_once(conversation)
                    break
                except (ConnectionError, messages.NotFound):
                    return  # the socket is closing: the client resumes when it is back
                except Exception as error:  # noqa: BLE001 - whatever it is: without these rows the client misses something
                    logger.warning("chat_fill_failed", extra={"conversation": str(conversation), "error": repr(error)})
                    pause = AGAIN_SECONDS * random.uniform(0.8, 1.2)
        finally:
            self._read_done(conversation)
        self._show_turn(self, conversation)

    async def _read_once(self, conversation: UUID) -> None:
        async with self._reading:
            sent = self._sent.get(conversation)
            if sent is None:
                at_admission = await in_database(messages.seq_at, self.user_id, conversation, self.since)
                sent = self._follow(conversation, at_admission)
            await self._go_on(conversation, sent, self._deliver)

    async def _deliver(self, text: str) -> None:
        while not self.manager.deliver(text):
            if self._closed or self.manager.closing:
                raise ConnectionError("the socket is closing")
            await asyncio.sleep(BEHIND_SECONDS)

    def _follow(self, conversation: UUID, upto: int) -> Sent:
        """Begin a conversation of which nothing was sent. What is up to `upto` is left to a resume."""
        sent = self._sent[conversation] = Sent(upto)
        if len(self._sent) > FOLLOWED:
            self._sent.popitem(last=False)
        return sent

    def _note(self, conversation: UUID, sent: Sent, seq: int) -> None:
        sent.add(seq)
        if conversation in self._sent:
            self._sent.move_to_end(conversation)

    def close(self) -> None:
        self._closed = True
        for task in self._tasks:
            task.cancel()
