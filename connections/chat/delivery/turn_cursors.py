"""The turns that one socket is shown: each from its beginning to its end, by one attempt after the other."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

from django.utils import timezone

from connections.chat.frames import frame
from connections.chat.turn_events import Events

TURNS = 20  # turns a socket is followed in: many times what a user may have under way
LOST = "The server that worked on this went away."


@dataclass(slots=True)
class Place:
    """How far a socket was told of a turn that has not ended."""

    attempt: int
    told: int  # of its events
    conversation: UUID
    tool: str  # it was told that this one is in use, and not yet what came of it


class TurnCursors:
    """`deliver` says whether it could send a frame, `behind` is called where it could not. Event loop only."""

    def __init__(self, deliver: Callable[[str], bool], behind: Callable[[UUID], None]) -> None:
        self._deliver = deliver
        self._behind = behind
        self._turns: OrderedDict[UUID, Place] = OrderedDict()

    def events(self, events: Events) -> bool:
        """Tell of agent events. Whoever missed the beginning of a turn is told nothing of it, until a resume shows it
        from the beginning; so no client ever gets half a turn. False if events before these did not come here.
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
        """Tell the end of a turn, by whichever attempt, if its beginning was told."""
        known = self._turns.pop(run, None)
        if known is not None:
            self._close_tool(run, known)
            self._deliver(text)

    def _close_tool(self, run: UUID, known: Place) -> None:
        """A tool that was told to be in use is told to be done, also where nobody knows what came of it."""
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
        """The turns of a conversation that it was not told the end of."""
        return [run for run, place in self._turns.items() if place.conversation == conversation]
