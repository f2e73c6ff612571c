"""One socket of ours, and how far it has been told of each conversation and each turn."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from connections.chat import store
from connections.chat.events import Events
from connections.chat.limits import PAGE_OF_MESSAGES
from connections.chat.store import StoredMessage
from connections.chat.threads import in_database
from connections.manager import Manager

logger = logging.getLogger(__name__)

CURSORS = 200  # conversations a socket is followed in; whoever looks at more gets a message twice, which is harmless
TURNS = 20  # turns a socket is followed in: many times what a user may have under way
BEHIND_SECONDS = 0.5  # how often a client that is too far behind is tried again

Send = Callable[[str], Awaitable[object]]


class Reader:
    """`show_turn` is asked to show where a conversation's turn is. Event loop only."""

    def __init__(self, manager: Manager, show_turn: "Callable[[Reader, UUID], None]") -> None:
        self.manager = manager
        self.user_id: Any = manager.user_id
        self.since: datetime | None = None  # it was here then, for sure
        self._show_turn = show_turn
        self._told: OrderedDict[UUID, int] = OrderedDict()
        # Turns whose beginning it was told, and whose end not yet: the attempt, and how many of its events.
        self._turns: OrderedDict[UUID, tuple[int, int]] = OrderedDict()
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

    def events(self, events: Events) -> bool:
        """Tell of agent events. Whoever missed the beginning of a turn is told nothing of it, until a resume shows it
        from the beginning; so no client ever gets half a turn. False if events before these did not come here.
        """
        known, place = self._turns.get(events.run), (events.attempt, events.start)
        if events.start == 0:
            news = known is None or known < (events.attempt, events.end)
        else:
            news = known == place
            if known is not None and known < place:
                del self._turns[events.run]
                return False
        if news:
            self._show(events)
        return True

    def _show(self, events: Events) -> None:
        self._turns.pop(events.run, None)
        for text in events.frames:
            if not self.manager.deliver(text):
                told = self._told.get(events.conversation)
                if told is not None and events.conversation not in self._filling:
                    self._fill_later(events.conversation, told)  # and then it is shown from the beginning
                return
        if not events.last:
            self._turns[events.run] = (events.attempt, events.end)
            if len(self._turns) > TURNS:
                self._turns.popitem(last=False)

    def turn_ended(self, run: UUID, text: str) -> None:
        """Tell the end of a turn, by whichever attempt, if its beginning was told."""
        if self._turns.pop(run, None) is not None:
            self.manager.deliver(text)

    def knows(self, conversation: UUID, seq: int) -> bool:
        return self._told.get(conversation, 0) >= seq

    def lacks(self, conversation: UUID, seq: int, at: datetime) -> bool:
        """A message that was stored at this time should have been told, and was not. What nothing was told of yet, and
        is older than this socket, is for a resume.
        """
        if conversation in self._told:
            return not self.knows(conversation, seq)
        return self.since is not None and at > self.since

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
        self._filling[conversation] = after_seq
        task = asyncio.get_running_loop().create_task(
            self._fill(conversation, after_seq), name=f"chat-fill {self.manager.id}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fill(self, conversation: UUID, after_seq: int) -> None:
        try:
            await self.resume(conversation, after_seq, self._deliver)
            self._show_turn(self, conversation)
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
