"""Send agent events to one socket, each turn from start to end, and record how far the socket got in each."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID, uuid4

from django.utils import timezone

from connections.chat.frames import frame
from connections.chat.turn_events import Events

TURNS_FOLLOWED = 20  # per socket: many times the turns that a user may have running
TOOL_LOST = "The server that worked on this went away."


@dataclass(slots=True)
class TurnCursor:
    """How far one socket got in a turn that has not ended for it."""

    attempt: int
    events_sent: int
    conversation: UUID
    tool: str  # the tool whose start was sent and whose end was not; or empty
    missed: bool = False  # later events were not sent, so only the turn from its start may follow, or its end


class Deliver(Protocol):
    """Send all of these frames, or none and return False."""

    def __call__(self, *texts: str) -> bool: ...


class TurnCursors:
    """If `deliver` can't send frames, `behind` is called with their conversation. Use it on the event loop."""

    def __init__(self, deliver: Deliver, behind: Callable[[UUID], None]) -> None:
        self._deliver = deliver
        self._behind = behind
        self._turns: OrderedDict[UUID, TurnCursor] = OrderedDict()

    def events(self, events: Events) -> bool:
        """Send agent events. A socket that was not sent the start of a turn gets none of its events until a resume
        sends the turn from its start. Returns False if events before these are missing here.
        """
        cursor = self._turns.get(events.run)
        position = None if cursor is None else (cursor.attempt, cursor.events_sent)
        if events.start == 0:
            if position is None or position < (events.attempt, events.end):
                self._send(events, cursor)
        elif cursor is not None and position is not None and not cursor.missed:
            if position == (events.attempt, events.start):
                self._send(events, cursor)
            elif position < (events.attempt, events.start):
                cursor.missed = True
                return False
        return True

    def _send(self, events: Events, cursor: TurnCursor | None) -> None:
        tool_end = _tool_end(events.run, cursor) if cursor is not None and events.start == 0 else []
        if not self._deliver(*tool_end, *events.frames):
            self._fell_behind(events.conversation, cursor)
            return
        self._turns.pop(events.run, None)
        if not events.last:
            self._turns[events.run] = TurnCursor(events.attempt, events.end, events.conversation, events.tool)
            if len(self._turns) > TURNS_FOLLOWED:
                self._turns.popitem(last=False)

    def ended(self, run: UUID, text: str) -> None:
        """Send the end of a turn, of any attempt, if its start was sent."""
        cursor = self._turns.get(run)
        if cursor is None:
            return
        if self._deliver(*_tool_end(run, cursor), text):
            del self._turns[run]
        else:
            self._fell_behind(cursor.conversation, cursor)

    def _fell_behind(self, conversation: UUID, cursor: TurnCursor | None) -> None:
        if cursor is not None:
            cursor.missed = True
        self._behind(conversation)

    def unfinished_in(self, conversation: UUID) -> list[UUID]:
        """The turns of a conversation whose start this socket was sent, and whose end it was not."""
        return [run for run, cursor in self._turns.items() if cursor.conversation == conversation]


def _tool_end(run: UUID, cursor: TurnCursor) -> list[str]:
    """The end of the tool whose start was sent, if there is one. Its result is unknown here."""
    if not cursor.tool:
        return []
    return [
        frame(
            "tool_completed",
            run=run,
            conversation=cursor.conversation,
            event_id=uuid4(),
            timestamp=timezone.now(),
            tool=cursor.tool,
            result=TOOL_LOST,
            success=False,
            duration_ms=0,
        )
    ]
