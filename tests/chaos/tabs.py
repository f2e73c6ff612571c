"""The clients: tabs of many users, which keep to the contract as the chat page does."""

import asyncio
import json
import random
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from picows import WSCloseCode

from benchmarks.client import FAILED, Socket, connect
from tests.chaos import bounds
from tests.chaos.cluster import Cluster
from tests.chaos.history import Ack, Closing, Connection, Leaving
from tests.support.databases import TestUser

CONNECT_SECONDS = 9.0  # the page waits 15; the server answers, or refuses, within 4
CLOSE_SECONDS = 2.0  # that a browser waits for the server's half of a close
USE_HERE = 0.15  # of those who were sent away for good: so many click on "Use here"
USE_HERE_SECONDS = (2.0, 8.0)
BACKOFF = (0.3, 3.0)
QUIET_SECONDS = 2 * bounds.PACE.heartbeat + 1  # without a word of the server, after which the page reconnects
RESUME_AGAIN_SECONDS = 2.0  # after an error, as the page does
ELSEWHERE = {4012, 4013}
SLOW = 0.3  # of all tabs
SLOW_PONG = 0.5  # seconds that a slow client takes to answer: half a probe
ASKS = ("What time is it?", "Where am I signed in?", "Help", "Search for tea", "Summary")


@dataclass
class Person:
    """A user, whose tabs share conversations."""

    user: TestUser
    conversations: set[str] = field(default_factory=set)


class TabSocket(Socket):
    """The socket of one line, on its client's side."""

    def __init__(self, tab: "Tab", connection: Connection) -> None:
        super().__init__()
        self.tab = tab
        self.connection = connection
        self.delivery = DeliveryCheck(self)
        self.heard = time.monotonic()
        self.over = False  # the run is: what happens to it now is no fact of it

    def text(self, payload: bytes) -> None:
        if self.connection.silent is not None:
            return
        self.heard = time.monotonic()
        frame = json.loads(payload)
        match frame["type"]:
            case "ping":
                pong = json.dumps({"type": "pong", "nonce": frame["nonce"]}).encode()
                asyncio.get_running_loop().call_later(self.tab.pong_delay, self.say, pong)
            case "ready":
                self.connection.admitted, self.connection.manager = time.time(), frame["manager"]
                self.connection.counted = frame["live"]
                self.tab.welcome(self)
            case "closing":
                closing = (frame["code"], frame["reason"], frame["reconnect"], frame["retry_after"])
                self.connection.closing = Closing(time.time(), *closing)
            case "ack":
                self.tab.acknowledged(frame)
            case "message":
                self.delivery.message(frame)
            case "resumed":
                self.delivery.resumed(frame)
            case "error":
                self.delivery.failed(frame)

    def on_ws_disconnected(self, transport: Any) -> None:
        super().on_ws_disconnected(transport)
        if not self.over:
            self.connection.ended, self.connection.code = time.time(), self.code

    def say(self, payload: bytes) -> None:
        if self.connection.silent is None and not self.closed.is_set() and self.code is None:
            self.send(payload)

    def frame(self, kind: str, **fields: object) -> None:
        self.say(json.dumps({"type": kind, **fields}).encode())


class DeliveryCheck:
    """What one socket was sent of each conversation: every number once, live ones without a gap, and all that a resume
    asked for before its `resumed`.
    """

    def __init__(self, socket: "TabSocket") -> None:
        self._socket = socket
        self._asked: dict[str, list[int]] = {}  # after which numbers; a socket's frames are answered in their order
        self._came: dict[str, set[int]] = {}
        self._live: dict[str, range] = {}  # from the first that came, or from where the first resume ended

    def ask(self, conversation: str, after: int) -> None:
        self._asked.setdefault(conversation, []).append(after)
        self._socket.frame("resume", conversation=conversation, after_seq=after)

    def message(self, frame: dict[str, Any]) -> None:
        conversation, seq = frame["conversation"], frame["seq"]
        tab = self._socket.tab
        tab.person.conversations.add(conversation)
        live = self._live.setdefault(conversation, range(seq, seq))
        came = self._came.setdefault(conversation, set())
        if seq == live.stop:
            self._live[conversation] = range(live.start, seq + 1)
        elif seq >= live.start or seq in came:
            self._wrong(f"{seq} of {conversation} came after {live.stop - 1}")
        came.add(seq)
        tab.read[conversation] = max(seq, tab.read.get(conversation, 0))

    def resumed(self, frame: dict[str, Any]) -> None:
        conversation, last = frame["conversation"], frame["last_seq"]
        after = self._asked[conversation].pop(0)
        came = self._came.setdefault(conversation, set())
        missed = [seq for seq in range(after + 1, last + 1) if seq not in came]
        if missed:
            self._wrong(f"a resume of {conversation} after {after} ended at {last} without {missed[:5]}")
        self._live.setdefault(conversation, range(last + 1, last + 1))
        self._socket.tab.resumes[conversation] = sorted(came)

    def failed(self, frame: dict[str, Any]) -> None:
        """Ask again, as the page does, if it was a resume that failed."""
        asked = self._asked.get(frame.get("conversation", ""))
        if asked and "client_id" not in frame:
            asyncio.get_running_loop().call_later(RESUME_AGAIN_SECONDS, self.ask, frame["conversation"], asked.pop(0))

    def _wrong(self, what: str) -> None:
        self._socket.tab.history.delivery_errors.append(
            f"{self._socket.connection.user}'s {self._socket.connection.manager}: {what}"
        )


class Tab:
    def __init__(self, number: int, person: Person, cluster: Cluster, rng: random.Random) -> None:
        self.number = number
        self.person = person
        self.socket: TabSocket | None = None
        self.read: dict[str, int] = {}
        self.resumes: dict[str, list[int]] = {}  # what its socket had been sent as a resume ended
        self.pong_delay = SLOW_PONG if rng.random() < SLOW else 0.0
        self.wants = True  # a connection; not after it was sent away for good
        self.staying_away = False  # it does not come back any more where it was sent away for good
        self._cluster = cluster
        self.history = cluster.history
        self._rng = rng
        self._names = list(cluster.nodes)
        self._node = rng.randrange(len(self._names))
        self._device = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        self._outbox: dict[str, tuple[str | None, str]] = {}
        self._again: float | None = None  # whether it comes back, and after how long

    # Its life

    async def live(self) -> None:
        """Connect, read, and come back as told, until its machine is gone."""
        while True:
            self.wants, self._again = True, None
            socket = await self._open()
            if socket is not None:
                await self._until_ended(socket)
            self.socket = None
            if socket is not None and socket.connection.silent is not None:
                return
            pause = self._pause(socket)
            self.wants = self._again is None
            await asyncio.sleep(pause)
            if self.staying_away and not self.wants:
                return

    async def _open(self) -> TabSocket | None:
        name = self._names[self._node % len(self._names)]
        connection = Connection(
            self.person.user.name, self.number, name, self._device, time.time_ns() // 1_000_000, time.time()
        )
        self.history.connections.append(connection)
        url = f"{self._cluster.nodes[name].ws_url}/ws/chat/?device={connection.device}&attempt={connection.attempt}"
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                self.socket = await connect(url, self.person.user.cookie, lambda: TabSocket(self, connection))
        except FAILED as error:
            connection.failed, connection.ended = f"{type(error).__name__}: {error}"[:200], time.time()
            self._node += 1
            return None
        return self.socket

    async def _until_ended(self, socket: TabSocket) -> None:
        """Until the socket has ended, or the server says nothing for so long that the page gives it up."""
        while not socket.closed.is_set():
            quiet = time.monotonic() - socket.heard
            patience = CONNECT_SECONDS if socket.connection.admitted is None else QUIET_SECONDS
            if socket.connection.left is not None:
                if time.time() - socket.connection.left > CLOSE_SECONDS:
                    socket.transport.disconnect(graceful=False)
            elif socket.connection.silent is None and quiet > patience:
                self.leave("gave_up")
                self._node += 1
            try:
                async with asyncio.timeout(1):
                    await socket.closed.wait()
            except TimeoutError:
                continue
        await wire.transport.wait_disconnected()  # raises what our own handling of a frame has raised, if it has

    def _pause(self, socket: TabSocket | None) -> float:
        """Seconds until the next attempt. Whoever was told to stay away now and then clicks on "Use here"."""
        closing = socket.connection.closing if socket is not None else None
        if closing is None:
            return self._rng.uniform(*BACKOFF)
        self._node += closing.code in ELSEWHERE
        if closing.reconnect == "after":
            return closing.retry_after
        self._again = self._rng.uniform(*USE_HERE_SECONDS)
        while self._rng.random() > USE_HERE:
            self._again += self._rng.uniform(*USE_HERE_SECONDS)
        return self._again

    def leave(self, how: Leaving) -> None:
        """A clean close, or an end without one."""
        socket = self.socket
        if socket is None or socket.closed.is_set() or socket.connection.left is not None:
            return
        socket.connection.left, socket.connection.leaving = time.time(), how
        if how == "closed":
            socket.transport.send_close(WSCloseCode.OK)
        else:
            socket.transport.disconnect(graceful=False)

    def fall_silent(self, *, half_open: bool) -> None:
        """Never answer again. `half_open`: nothing of it arrives any more, not even what its kernel would say."""
        socket = self.socket
        if socket is None or not socket.connection.open:
            return
        socket.connection.silent = time.time()
        self.wants = False
        if half_open:
            port = socket.transport.underlying_transport.get_extra_info("sockname")[1]
            self._cluster.nodes[socket.connection.node].clients.hold_one(port)

    # What it says

    def welcome(self, socket: TabSocket) -> None:
        for known in sorted(self.person.conversations):
            socket.delivery.ask(known, self.read.get(known, 0))
        for client_id, (conversation, text) in self._outbox.items():
            socket.frame("user_message", client_id=client_id, conversation=conversation, text=text)

    def ask(self) -> None:
        """Say something, in a conversation of its user's or a new one. Kept until it is acknowledged."""
        if self.socket is None or not self.socket.connection.open:
            return
        known = sorted(self.person.conversations)
        conversation = self._rng.choice(known) if len(known) >= 2 else None
        client_id, text = str(uuid.UUID(int=self._rng.getrandbits(128), version=4)), self._rng.choice(ASKS)
        self._outbox[client_id] = (conversation, text)
        self.history.sent.add(client_id)
        self.socket.frame("user_message", client_id=client_id, conversation=conversation, text=text)
        if self._rng.random() < 0.1:  # a page that isn't sure sends again
            self.socket.frame("user_message", client_id=client_id, conversation=conversation, text=text)

    def acknowledged(self, frame: dict[str, Any]) -> None:
        self._outbox.pop(frame["client_id"], None)
        self.person.conversations.add(frame["conversation"])
        ack = Ack(self.person.user.name, frame["client_id"], frame["conversation"], frame["seq"])
        self.history.acks.append(ack)

    def resend(self) -> None:
        """What was answered with an error, or with nothing."""
        if self.socket is not None and self.socket.connection.open:
            for client_id, (conversation, text) in list(self._outbox.items())[:5]:
                self.socket.frame("user_message", client_id=client_id, conversation=conversation, text=text)
