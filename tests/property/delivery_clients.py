"""The bells, sockets and clients of the delivery test. A client knows the messages that it sent and has shown."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from django.contrib.auth.models import User

from connections.chat.delivery.hub import Hub
from connections.chat.delivery.subscriber import Subscriber


class Bells:
    """A fake bus for the hubs. Each bell waits until the scenario delivers it, in any order, twice or never."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[dict[str, Any]], None]] = []
        self.waiting: list[dict[str, Any]] = []

    def subscribe(self, topic: str, callback: Callable[[dict[str, Any]], None]) -> None:
        self.listeners.append(callback)

    def ring(self, node_id: UUID | None, topic: str, data: dict[str, Any]) -> None:
        self.waiting.append(data)

    def deliver(self, which: int, *, keep: bool) -> None:
        if self.waiting:
            place = which % len(self.waiting)
            data = self.waiting[place] if keep else self.waiting.pop(place)
            for listener in self.listeners:
                listener(data)


class Socket:
    """One connection of a client: a fake of the part of `Manager` that hub and subscriber use. It checks that each
    message comes once, and that new messages come in order and without a gap.
    """

    def __init__(self, client: "Client") -> None:
        self.id, self.user_id = uuid4(), client.user.pk
        self.client = client
        self.closing = self.full = False
        self.came: list[int] = []

    def deliver(self, *texts: str) -> bool:
        if self.full or self.closing:
            return False
        for text in texts:
            self.take(json.loads(text))
        return True

    async def send(self, text: str) -> None:
        if self.closing:
            raise ConnectionError("closed")
        self.take(json.loads(text))
        await asyncio.sleep(0)

    def take(self, frame: dict[str, Any]) -> None:
        seq = frame["seq"]
        assert seq not in self.came, f"{seq} came twice, after {self.came}"
        self.came.append(seq)
        first = self.came[0]
        live = [came for came in self.came if came >= first]
        assert live == list(range(first, first + len(live))), f"{seq} came too early or too late: {self.came}"
        self.client.show(frame)

    def resumed(self, after: int, last: int) -> None:
        """Check that the socket was sent all messages after `after` when a resume has ended at `last`."""
        missing = [seq for seq in range(after + 1, last + 1) if seq not in self.client.shown]
        assert not missing, f"a resume after {after} ended at {last} without {missing}"


@dataclass(frozen=True)
class Entry:
    """A message that waits in a client's outbox."""

    key: UUID
    text: str


@dataclass
class Client:
    """A tab. It keeps each message in its outbox until the ack comes, and shows each message that it gets."""

    user: User
    outbox: list[Entry] = field(default_factory=list)
    acknowledged: list[Entry] = field(default_factory=list)
    shown: dict[int, str] = field(default_factory=dict)
    conversation: UUID | None = None
    socket: Socket | None = None
    reader: Subscriber | None = None
    hub: Hub | None = None

    def show(self, frame: dict[str, Any]) -> None:
        self.conversation = UUID(frame["conversation"])
        assert self.shown.setdefault(frame["seq"], frame["text"]) == frame["text"]

    @property
    def upto(self) -> int:
        return next(seq for seq in count() if seq + 1 not in self.shown)

    def drop(self) -> None:
        if self.socket is not None and self.reader is not None and self.hub is not None:
            self.socket.closing = True
            self.hub.detach(self.reader)
        self.socket = self.reader = self.hub = None
