"""Agent events to the sockets of their user, on this node and on others.

A turn that begins is told to all nodes in one bell. A node that holds sockets of the user asks for it, is sent what was
shown so far and then what comes, a few times a second and only as long as the turn runs. What is lost on the way costs
the sight of the work and nothing else, since the answer is a message: a node that notices a gap asks again, and so does
one whose client resumes.
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any
from uuid import UUID, uuid4

from django.db import Error as DatabaseError
from django.utils import timezone

from connections.chat.delivery.hub import Hub
from connections.chat.delivery.subscriber import Subscriber
from connections.chat.executors import in_database
from connections.chat.frames import frame
from connections.chat.turn_events import COMPLETED, Events
from connections.chat.turns import rows as turn_rows
from connections.chat.turns.rows import Ended
from connections.chat.turns.running import RunningTurn
from connections.node.current import current_node

logger = logging.getLogger(__name__)

BEGAN, FOLLOW, EVENTS, ENDED = "turn_began", "turn_follow", "turn_events", "turn_ended"
BATCH_SECONDS = 0.1  # a subscriber sees ten updates a second as a flow, and a node gets ten bells, however many turns


class Relay:
    """`running` has the turns that run here, by conversation. Use it on the event loop."""

    def __init__(self, hub: Hub, running: Mapping[UUID, RunningTurn]) -> None:
        self._hub = hub
        self._bus = hub.bus
        self._running = running
        self._followers: dict[tuple[UUID, int], set[UUID]] = {}  # nodes that follow an attempt, by (run, attempt)
        self._waiting: dict[UUID, list[dict[str, Any]]] = {}  # the events of each node's next bell
        self._tasks: set[asyncio.Task[None]] = set()
        hub.show_turn = self.show
        for topic, heard in ((BEGAN, self._began), (FOLLOW, self._follow), (EVENTS, self._events), (ENDED, self._end)):
            self._bus.subscribe(topic, heard)

    # Here

    def began(self, live: RunningTurn) -> None:
        own = _own_id()
        if own is not None:
            turn = live.turn
            ids = {"user": str(turn.user_id), "conversation": str(turn.conversation), "node": str(own)}
            self._bus.ring(None, BEGAN, ids)

    def tell(self, live: RunningTurn, events: Events) -> None:
        self._hub.events(live.turn.user_id, events)
        for node_id in self._followers.get((events.run, events.attempt), ()):
            self._wait(node_id, events.as_bell(live.turn.user_id))

    def over(self, live: RunningTurn) -> None:
        self._followers.pop((live.turn.run, live.turn.attempt), None)

    def ended(self, turn: Ended) -> None:
        """Send the end of a turn that was ended without running to its end, to every socket that saw it begin."""
        text = _end(turn)
        self._hub.turn_ended(turn.user_id, turn.run, text)
        self._bus.ring(None, ENDED, {"user": str(turn.user_id), "run": str(turn.run), "text": text})

    def show(self, subscriber: Subscriber, conversation: UUID) -> None:
        """Send a socket the conversation's turn so far, wherever it runs, and the ends of turns it saw begin."""
        live = self._running.get(conversation)
        if live is None:
            self._spawn(self._find(subscriber, conversation), f"chat-find {conversation}")
        elif live.turn.user_id == subscriber.user_id:
            subscriber.turn_cursors.events(live.so_far())

    async def _find(self, subscriber: Subscriber, conversation: UUID) -> None:
        try:
            node_id = await in_database(turn_rows.running_on, conversation)
            if begun := subscriber.turn_cursors.open_in(conversation):
                for turn in await in_database(turn_rows.over, begun):
                    subscriber.turn_cursors.ended(turn.run, _end(turn))
        except (DatabaseError, TimeoutError) as error:
            logger.warning("chat_turn_not_found", extra={"conversation": str(conversation), "error": str(error)})
            return
        if node_id is not None:
            self._ask(node_id, conversation)

    # Between nodes

    def _ask(self, node_id: UUID, conversation: UUID) -> None:
        own = _own_id()
        if own is not None and own != node_id:
            self._bus.ring(node_id, FOLLOW, {"conversation": str(conversation), "node": str(own)})

    def _began(self, data: dict[str, Any]) -> None:
        if self._hub.holds(data["user"]):
            self._ask(UUID(data["node"]), UUID(data["conversation"]))

    def _follow(self, data: dict[str, Any]) -> None:
        live = self._running.get(UUID(data["conversation"]))
        if live is not None:
            node_id = UUID(data["node"])
            turn = live.turn
            self._followers.setdefault((turn.run, turn.attempt), set()).add(node_id)
            self._wait(node_id, live.so_far().as_bell(turn.user_id))

    def _wait(self, node_id: UUID, bell: dict[str, Any]) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_later(BATCH_SECONDS, self._ring)
        self._waiting.setdefault(node_id, []).append(bell)

    def _ring(self) -> None:
        own, waiting, self._waiting = _own_id(), self._waiting, {}
        if own is None:
            return  # this node was fenced: other nodes run these turns now
        for node_id, bells in waiting.items():
            self._bus.ring(node_id, EVENTS, {"node": str(own), "events": bells})

    def _events(self, data: dict[str, Any]) -> None:
        for bell in data["events"]:
            events = Events.from_bell(bell)
            if not self._hub.events(bell["user"], events):
                self._ask(UUID(data["node"]), events.conversation)

    def _end(self, data: dict[str, Any]) -> None:
        self._hub.turn_ended(data["user"], UUID(data["run"]), str(data["text"]))

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _end(turn: Ended) -> str:
    message = turn.message
    return frame(
        COMPLETED,
        run=turn.run,
        conversation=message.conversation,
        event_id=uuid4(),
        timestamp=timezone.now(),
        text=message.text,
        seq=message.seq,
        duration_ms=turn.milliseconds,
        success=turn.success,
    )


def _own_id() -> UUID | None:
    node = current_node()
    return None if node is None else node.id
