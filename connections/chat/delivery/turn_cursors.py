"""How far one socket got in the turns of its user: each from beginning to end, one attempt after the other."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

from django.utils import timezone

from connections.chat.frames import frame
from connections.chat.turn_events import Events

TURNS = 20  # turns followed per socket: many times what a user may have running
LOST = "The server that worked on this went away."


@dataclass(slots=True)
class Place:
    """How far a socket got in a turn that has not ended."""

    attempt: int
    told: int  # events sent so far
    conversation: UUID
    tool: str  # the tool whose beginning was sent, and not yet its end


class TurnCursors:
    """`deliver` returns whether it could send a frame; `behind` is called if not. Use it on the event loop."""

    def __init__(self, deliver: Callable[[str], bool], behind: Callable[[UUID], None]) -> None:
        self._deliver = deliver
        self._behind = behind
        self._turns: OrderedDict[UUID, Place] = OrderedDict()

    def events(self, events: Events) -> bool:
        """Send agent events. A socket that missed the beginning of a turn gets none of it, until a resume sends it from
        the beginning: no client gets half a turn. Returns False if events before these did not come here.
        """
        known = self._turns.get(events.run)
        told = None if known is None else (known.attempt, known.told)
        if events.start == 0:
            news = told is None or told < (events.attempt, events.end)
        else:
            news = told == (events.attempt, events.start)
            if told is not None and told < (events.attempt, events.start):
                del self._turns[events.run]
                return False
        if news:
            self._show(events)
        return True

    def _show(self, events: Events) -> None:
        known = self._turns.pop(events.run, None)
        if known is not None and events.start == 0:
            self._close_tool(events.run, known)
        for text in events.frames:
            if not self._deliver(text):
                self._behind(events.conversation)
                return
        if not events.last:
            self._turns[events.run] = Place(events.attempt, events.end, events.conversation, events.tool)
            if len(self._turns) > TURNS:
                self._turns.popitem(last=False)

    def ended(self, run: UUID, text: str) -> None:
        """Send the end of a turn, of any attempt, if its beginning was sent."""
        known = self._turns.pop(run, None)
        if known is not None:
            self._close_tool(run, known)
            self._deliver(text)

    def _close_tool(self, run: UUID, known: Place) -> None:
        """Send the end of a tool whose beginning was sent, also if its outcome is unknown."""
        if known.tool:
            self._deliver(
                frame(
                    "tool_completed",
                    run=run,
                    conversation=known.conversation,
                    event_id=uuid4(),
                    timestamp=timezone.now(),
                    tool=known.tool,
                    result=LOST,
                    success=False,
                    duration_ms=0,
                )
            )

    def open_in(self, conversation: UUID) -> list[UUID]:
        """The turns of a conversation that began for this socket and have not ended for it."""
        return [run for run, place in self._turns.items() if place.conversation == conversation]
