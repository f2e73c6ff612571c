"""Deliver a conversation's messages to one socket: each once and in order.

A message is sent in one of three ways. A live message is sent when the hub offers it, if it is the next one. Messages
missing before it are read from the rows. A client's resume sends what the socket was not sent yet. All three use the
same `Sent`, one for each conversation. A task that reads rows holds the lock; live messages of its conversation wait.
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

CONVERSATIONS_FOLLOWED = 200  # per socket; in one beyond these a message may be sent twice, which the page ignores
BEHIND_SECONDS = 0.5  # between attempts to send to a client that is too far behind
RETRY_SECONDS = 2.0  # after an error, until the rows are read again
LOST_END_SECONDS = 2.0  # after an answer: if the end of its turn has not come by then, its bell was lost

Send = Callable[[str], Awaitable[object]]


class SocketClosing(Exception):
    """The socket takes no more messages: its client resumes when it is back."""


class Subscriber:
    """`since` is when the socket was admitted, on the database's clock. `show_turn` sends the events so far of a
    conversation's turn, or its end. Use it on the event loop.
    """

    def __init__(self, manager: Manager, since: datetime, show_turn: "Callable[[Subscriber, UUID], None]") -> None:
        self.manager = manager
        self.user_id: Any = manager.user_id
        self.since = since
        self.turn_cursors = TurnCursors(manager.deliver, self._on_behind)
        self._show_turn = show_turn
        self._sent: OrderedDict[UUID, Sent] = OrderedDict()
        self._reads: Counter[UUID] = Counter()  # waiting and running reads of each conversation's rows
        self._offered: dict[UUID, int] = {}  # the highest seq offered while the conversation's rows were read
        # So that at most one page of rows is in memory, and no conversation is read twice at once.
        self._reading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    # Live messages

    def offer(self, message: StoredMessage, text: str) -> None:
        """Send a message that the socket was not sent yet, after those before it that are younger than the socket."""
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
        if message.role == Role.ASSISTANT and self.turn_cursors.unfinished_in(conversation):
            asyncio.get_running_loop().call_later(LOST_END_SECONDS, self._ask_for_lost_end, conversation)

    def _ask_for_lost_end(self, conversation: UUID) -> None:
        if not self._closed and self.turn_cursors.unfinished_in(conversation):
            self._show_turn(self, conversation)

    def _on_behind(self, conversation: UUID) -> None:
        """Called when the client was too far behind for an event: once it caught up, send the turn from its start."""
        if conversation not in self._reads:
            self._read_soon(conversation, BEHIND_SECONDS)

    def knows(self, conversation: UUID, seq: int) -> bool:
        """Whether live delivery has reached this message: it was sent, or is left to a resume."""
        sent = self._sent.get(conversation)
        return sent is not None and sent.upto >= seq

    def lacks(self, conversation: UUID, seq: int, at: datetime) -> bool:
        """Whether the socket must still be sent this message, stored at `at`. Messages older than the socket, in a
        conversation of which it was sent nothing yet, are left to a resume.
        """
        if conversation in self._sent:
            return not self.knows(conversation, seq)
        return at > self.since

    # Messages from the rows

    def read_later(self, conversation: UUID, seq: int) -> None:
        """Read the rows again: this message was announced, and could not be read."""
        if conversation in self._reads:
            self._offered[conversation] = max(seq, self._offered.get(conversation, 0))
        else:
            self._read_soon(conversation, RETRY_SECONDS)

    async def resume(self, conversation: UUID, after_seq: int, send: Send) -> int:
        """Send the messages above `after_seq` that the socket was not sent yet, in order. Returns the last seq.

        Raises NotFound and the database's errors. Messages sent before the error are not sent again.
        """
        self._reads[conversation] += 1
        try:
            async with self._reading:
                sent = self._sent.get(conversation)
                if sent is None:
                    # The client may have named a number beyond the last message.
                    last = await in_database(messages.last_seq, self.user_id, conversation)
                    sent = self._follow(conversation, min(after_seq, last))
                after = after_seq
                while gap := sent.next_gap(after):
                    page = await self._send_page(conversation, sent, gap.start - 1, gap.stop - 1, send)
                    after = page[-1].seq if len(page) == PAGE_OF_MESSAGES else gap.stop - 1
                await self._send_rest(conversation, sent, send)
                return sent.upto
        finally:
            self._read_done(conversation)

    async def _send_rest(self, conversation: UUID, sent: Sent, send: Send) -> None:
        """Send all messages above `upto`. Nothing is awaited after the last page, so no live message is missed."""
        while True:
            offered = self._offered.get(conversation, 0)  # an offered message is committed, so the page has it
            page = await self._send_page(conversation, sent, sent.upto, None, send)
            if len(page) < PAGE_OF_MESSAGES and self._offered.get(conversation, 0) <= max(offered, sent.upto):
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
        """After the last read: if it failed to send a message offered meanwhile, read again."""
        self._reads[conversation] -= 1
        if self._reads[conversation]:
            return
        del self._reads[conversation]
        offered = self._offered.pop(conversation, 0)
        if offered and not self.knows(conversation, offered):
            self._read_soon(conversation)

    def _read_soon(self, conversation: UUID, pause: float = 0.0) -> None:
        """In `pause` seconds, read and send the messages above `upto`, or at first those younger than the socket."""
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
                if not self.manager.deliver():  # still too far behind to be sent anything
                    pause = BEHIND_SECONDS
                    continue
                try:
                    await self._read_once(conversation)
                    break
                except (SocketClosing, messages.NotFound):
                    return
                except Exception as error:  # noqa: BLE001 - whatever it is, the client needs these rows
                    logger.warning("chat_fill_failed", extra={"conversation": str(conversation), "error": repr(error)})
                    pause = RETRY_SECONDS * random.uniform(0.8, 1.2)
        finally:
            self._read_done(conversation)
        self._show_turn(self, conversation)

    async def _read_once(self, conversation: UUID) -> None:
        async with self._reading:
            sent = self._sent.get(conversation)
            if sent is None:
                at_admission = await in_database(messages.seq_at, self.user_id, conversation, self.since)
                sent = self._follow(conversation, at_admission)
            await self._send_rest(conversation, sent, self._deliver)

    async def _deliver(self, text: str) -> None:
        while not self.manager.deliver(text):
            if self._closed or self.manager.closing:
                raise SocketClosing
            await asyncio.sleep(BEHIND_SECONDS)
        await asyncio.sleep(0)  # let the frame go out, so that a whole page does not count as a backlog

    def _follow(self, conversation: UUID, upto: int) -> Sent:
        """Begin to record what is sent of a conversation. Messages up to `upto` are left to a resume."""
        sent = self._sent[conversation] = Sent(upto)
        if len(self._sent) > CONVERSATIONS_FOLLOWED:
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
