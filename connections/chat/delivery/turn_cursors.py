"""Send agent events to one socket, each turn from start to end, and record how far the socket got in each."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
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


class TurnCursors:
    """`deliver` sends a frame and returns False if it can't; then `behind` is called. Use it on the event loop."""

    def __init__(self, deliver: Callable[[str], bool], behind: Callable[[UUID], None]) -> None:
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
            is_next = position is None or position < (events.attempt, events.end)
        else:
            is_next = position == (events.attempt, events.start)
            if position is not None and position < (events.attempt, events.start):
                del self._turns[events.run]
                return False
        if is_next:
            self._send(events)
        return True

    def _send(self, events: Events) -> None:
        cursor = self._turns.pop(events.run, None)
        if cursor is not None and events.start == 0:
            self._close_tool(events.run, cursor)
        for text in events.frames:
            if not self._deliver(text):
                self._behind(events.conversation)
                return
        if not events.last:
            self._turns[events.run] = TurnCursor(events.attempt, events.end, events.conversation, events.tool)
            if len(self._turns) > TURNS_FOLLOWED:
                self._turns.popitem(last=False)

    def ended(self, run: UUID, text: str) -> None:
        """Send the end of a turn, of any attempt, if its start was sent."""
        cursor = self._turns.pop(run, None)
        if cursor is not None:
            self._close_tool(run, cursor)
            self._deliver(text)

    def _close_tool(self, run: UUID, cursor: TurnCursor) -> None:
        """Send the end of a tool whose start was sent. Its result is unknown here."""
        if cursor.tool:
            self._deliver(
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
            )

    def unfinished_in(self, conversation: UUID) -> list[UUID]:
        """The turns of a conversation whose start this socket was sent, and whose end it was not."""
        return [run for run, cursor in self._turns.items() if cursor.conversation == conversation]
