"""Send agent events to the sockets of their user, on this node and on others.

When a turn starts, its node rings all others once. A node that has sockets of the user asks to follow the turn. It is
sent the events so far, and then new ones in batches, until the turn ends. A lost bell costs only the view of the work,
since the answer is a stored message: a node that notices a gap asks again, and so does one whose client resumes.
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
BATCH_SECONDS = 0.1  # ten updates a second look continuous, and a node gets ten bells however many turns it follows


class Relay:
    """`running` has the turns that run on this node, by conversation. Use it on the event loop."""

    def __init__(self, hub: Hub, running: Mapping[UUID, RunningTurn]) -> None:
        self._hub = hub
        self._bus = hub.bus
        self._running = running
        self._followers: dict[tuple[UUID, int], set[UUID]] = {}  # nodes that follow an attempt, by (run, attempt)
        self._queued: dict[UUID, list[dict[str, Any]]] = {}  # the events for the next bell to each node
        self._tasks: set[asyncio.Task[None]] = set()
        hub.show_turn = self.show
        for topic, handler in (
            (BEGAN, self._on_began),
            (FOLLOW, self._on_follow),
            (EVENTS, self._on_events),
            (ENDED, self._on_ended),
        ):
            self._bus.subscribe(topic, handler)

    # Sockets of this node

    def announce(self, running: RunningTurn) -> None:
        own = _own_id()
        if own is not None:
            turn = running.turn
            ids = {"user": str(turn.user_id), "conversation": str(turn.conversation), "node": str(own)}
            self._bus.ring(None, BEGAN, ids)

    def send(self, running: RunningTurn, events: Events) -> None:
        self._hub.events(running.turn.user_id, events)
        for node_id in self._followers.get((events.run, events.attempt), ()):
            self._queue(node_id, events.as_bell(running.turn.user_id))

    def forget(self, running: RunningTurn) -> None:
        self._followers.pop((running.turn.run, running.turn.attempt), None)

    def send_end(self, turn: Ended) -> None:
        """Send the end of a turn that ended without its agent to all sockets, on any node, that got its start."""
        text = _end_frame(turn)
        self._hub.turn_ended(turn.user_id, turn.run, text)
        self._bus.ring(None, ENDED, {"user": str(turn.user_id), "run": str(turn.run), "text": text})

    def show(self, subscriber: Subscriber, conversation: UUID) -> None:
        """Send a socket the events so far of the conversation's running turn, wherever it runs, and the ends of turns
        whose start it was sent.
        """
        running = self._running.get(conversation)
        if running is None:
            self._spawn(self._request(subscriber, conversation), f"chat-find {conversation}")
        elif running.turn.user_id == subscriber.user_id:
            subscriber.turn_cursors.events(running.so_far())

    async def _request(self, subscriber: Subscriber, conversation: UUID) -> None:
        try:
            node_id = await in_database(turn_rows.running_on, conversation)
            if begun := subscriber.turn_cursors.unfinished_in(conversation):
                for turn in await in_database(turn_rows.ended_among, begun):
                    subscriber.turn_cursors.ended(turn.run, _end_frame(turn))
        except (DatabaseError, TimeoutError) as error:
            logger.warning("chat_turn_not_found", extra={"conversation": str(conversation), "error": str(error)})
            return
        if node_id is not None:
            self._ask_to_follow(node_id, conversation)

    # Between nodes

    def _ask_to_follow(self, node_id: UUID, conversation: UUID) -> None:
        own = _own_id()
        if own is not None and own != node_id:
            self._bus.ring(node_id, FOLLOW, {"conversation": str(conversation), "node": str(own)})

    def _on_began(self, data: dict[str, Any]) -> None:
        if self._hub.has_sockets_of(data["user"]):
            self._ask_to_follow(UUID(data["node"]), UUID(data["conversation"]))

    def _on_follow(self, data: dict[str, Any]) -> None:
        running = self._running.get(UUID(data["conversation"]))
        if running is not None:
            node_id = UUID(data["node"])
            turn = running.turn
            self._followers.setdefault((turn.run, turn.attempt), set()).add(node_id)
            self._queue(node_id, running.so_far().as_bell(turn.user_id))

    def _queue(self, node_id: UUID, bell: dict[str, Any]) -> None:
        if not self._queued:
            asyncio.get_running_loop().call_later(BATCH_SECONDS, self._ring_queued)
        self._queued.setdefault(node_id, []).append(bell)

    def _ring_queued(self) -> None:
        own, queued, self._queued = _own_id(), self._queued, {}
        if own is None:
            return  # this node was fenced, so other nodes run these turns now
        for node_id, bells in queued.items():
            self._bus.ring(node_id, EVENTS, {"node": str(own), "events": bells})

    def _on_events(self, data: dict[str, Any]) -> None:
        for bell in data["events"]:
            events = Events.from_bell(bell)
            if not self._hub.events(bell["user"], events):
                self._ask_to_follow(UUID(data["node"]), events.conversation)

    def _on_ended(self, data: dict[str, Any]) -> None:
        self._hub.turn_ended(data["user"], UUID(data["run"]), str(data["text"]))

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _end_frame(turn: Ended) -> str:
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
