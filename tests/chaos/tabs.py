"""The clients of a chaos run: browser tabs of many users, which keep to the contract as the chat page does."""

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
CLOSE_SECONDS = 2.0  # how long a browser waits for the server's half of a close
USE_HERE_SHARE = 0.15  # the chance, in each pause, that a tab that was told to stay away clicks on "Use here"
USE_HERE_SECONDS = (2.0, 8.0)  # the shortest and the longest of these pauses
BACKOFF = (0.3, 3.0)
SILENCE_SECONDS = 2 * bounds.PACE.heartbeat + 1  # without a frame of the server, after which the page reconnects
RESUME_AGAIN_SECONDS = 2.0  # after an error, as the page does
ANOTHER_NODE_CODES = {4012, 4013}  # the close codes after which a tab connects to the next node
SLOW_SHARE = 0.3  # the share of slow tabs
SLOW_PONG_SECONDS = 0.5  # how long a slow tab takes to answer a ping: half a probe
MESSAGES = ("What time is it?", "Where am I signed in?", "Help", "Search for tea", "Summary")


@dataclass
class Person:
    """A user, and the conversations that all of the user's tabs know."""

    user: TestUser
    conversations: set[str] = field(default_factory=set)


class TabSocket(Socket):
    """The client's side of a connection's WebSocket. It records in `connection` what happens to it."""

    def __init__(self, tab: "Tab", connection: Connection) -> None:
        super().__init__()
        self.tab = tab
        self.connection = connection
        self.delivery = DeliveryCheck(self)
        self.last_frame_at = time.monotonic()
        self.run_is_over = False  # from then on, the end of the socket is not recorded

    def text(self, payload: bytes) -> None:
        if self.connection.silent is not None:
            return
        self.last_frame_at = time.monotonic()
        frame = json.loads(payload)
        match frame["type"]:
            case "ping":
                pong = json.dumps({"type": "pong", "nonce": frame["nonce"]}).encode()
                asyncio.get_running_loop().call_later(self.tab.pong_delay, self._send, pong)
            case "ready":
                self.connection.admitted, self.connection.manager = time.time(), frame["manager"]
                self.connection.counted = frame["live"]
                self.tab.on_ready(self)
            case "closing":
                closing = (frame["code"], frame["reason"], frame["reconnect"], frame["retry_after"])
                self.connection.closing = Closing(time.time(), *closing)
            case "ack":
                self.tab.acknowledged(frame)
            case "message":
                self.delivery.on_message(frame)
            case "resumed":
                self.delivery.on_resumed(frame)
            case "error":
                self.delivery.on_error(frame)

    def on_ws_disconnected(self, transport: Any) -> None:
        super().on_ws_disconnected(transport)
        if not self.run_is_over:
            self.connection.ended, self.connection.code = time.time(), self.code

    def _send(self, payload: bytes) -> None:
        if self.connection.silent is None and not self.closed.is_set() and self.code is None:
            self.send(payload)

    def send_frame(self, kind: str, **fields: object) -> None:
        self._send(json.dumps({"type": kind, **fields}).encode())


class DeliveryCheck:
    """Checks what one socket is sent of each conversation: each sequence number comes once, new messages come without a
    gap, and all messages of a resume come before its `resumed`.
    """

    def __init__(self, socket: "TabSocket") -> None:
        self._socket = socket
        # The `after_seq` of each resume without a `resumed` yet. The server answers a socket's frames in their order.
        self._open_resumes: dict[str, list[int]] = {}
        self._received: dict[str, set[int]] = {}
        self._live: dict[str, range] = {}  # from the first message, or from the end of the first resume

    def resume(self, conversation: str, after: int) -> None:
        self._open_resumes.setdefault(conversation, []).append(after)
        self._socket.send_frame("resume", conversation=conversation, after_seq=after)

    def on_message(self, frame: dict[str, Any]) -> None:
        conversation, seq = frame["conversation"], frame["seq"]
        tab = self._socket.tab
        tab.person.conversations.add(conversation)
        live = self._live.setdefault(conversation, range(seq, seq))
        received = self._received.setdefault(conversation, set())
        if seq == live.stop:
            self._live[conversation] = range(live.start, seq + 1)
        elif seq >= live.start or seq in received:
            self._add_error(f"{seq} of {conversation} came after {live.stop - 1}")
        received.add(seq)
        tab.last_read[conversation] = max(seq, tab.last_read.get(conversation, 0))

    def on_resumed(self, frame: dict[str, Any]) -> None:
        conversation, last = frame["conversation"], frame["last_seq"]
        after = self._open_resumes[conversation].pop(0)
        received = self._received.setdefault(conversation, set())
        missed = [seq for seq in range(after + 1, last + 1) if seq not in received]
        if missed:
            self._add_error(f"a resume of {conversation} after {after} ended at {last} without {missed[:5]}")
        self._live.setdefault(conversation, range(last + 1, last + 1))
        self._socket.tab.resumes[conversation] = sorted(received)

    def on_error(self, frame: dict[str, Any]) -> None:
        """If the error is about a resume, resume again later, as the page does."""
        asked = self._open_resumes.get(frame.get("conversation", ""))
        if asked and "client_id" not in frame:
            asyncio.get_running_loop().call_later(
                RESUME_AGAIN_SECONDS, self.resume, frame["conversation"], asked.pop(0)
            )

    def _add_error(self, what: str) -> None:
        self._socket.tab.history.delivery_errors.append(
            f"{self._socket.connection.user}'s {self._socket.connection.manager}: {what}"
        )


class Tab:
    def __init__(self, number: int, person: Person, cluster: Cluster, rng: random.Random) -> None:
        self.number = number
        self.person = person
        self.socket: TabSocket | None = None
        self.last_read: dict[str, int] = {}
        self.resumes: dict[str, list[int]] = {}  # the numbers that the socket had been sent when its last resume ended
        self.pong_delay = SLOW_PONG_SECONDS if rng.random() < SLOW_SHARE else 0.0
        self.wants_connection = True  # False after the server told the tab to stay away
        self.use_here_stopped = False  # from then on a tab that was told to stay away never connects again
        self._cluster = cluster
        self.history = cluster.history
        self._rng = rng
        self._names = list(cluster.nodes)
        self._node = rng.randrange(len(self._names))
        self._device = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        self._outbox: dict[str, tuple[str | None, str]] = {}
        # Seconds until the tab clicks on "Use here"; None if the server has not told it to stay away.
        self._use_here_after: float | None = None

    # Connecting

    async def live(self) -> None:
        """Connect and reconnect as the server tells the tab to, until the tab has fallen silent."""
        while True:
            self.wants_connection, self._use_here_after = True, None
            socket = await self._open()
            if socket is not None:
                await self._until_ended(socket)
            self.socket = None
            if socket is not None and socket.connection.silent is not None:
                return
            pause = self._pause(socket)
            self.wants_connection = self._use_here_after is None
            await asyncio.sleep(pause)
            if self.use_here_stopped and not self.wants_connection:
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
        """Wait until the socket has ended. Cut it if the server sends nothing for so long that the page gives it up."""
        while not socket.closed.is_set():
            quiet = time.monotonic() - socket.last_frame_at
            patience = CONNECT_SECONDS if socket.connection.admitted is None else SILENCE_SECONDS
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
        await socket.transport.wait_disconnected()  # raises the exception of a frame handler of ours, if there was one

    def _pause(self, socket: TabSocket | None) -> float:
        """Seconds until the next attempt. A tab that was told to stay away clicks on "Use here" at some time."""
        closing = socket.connection.closing if socket is not None else None
        if closing is None:
            return self._rng.uniform(*BACKOFF)
        self._node += closing.code in ANOTHER_NODE_CODES
        if closing.reconnect == "after":
            return closing.retry_after
        self._use_here_after = self._rng.uniform(*USE_HERE_SECONDS)
        while self._rng.random() > USE_HERE_SHARE:
            self._use_here_after += self._rng.uniform(*USE_HERE_SECONDS)
        return self._use_here_after

    def leave(self, how: Leaving) -> None:
        """Close the socket cleanly, or cut it."""
        socket = self.socket
        if socket is None or socket.closed.is_set() or socket.connection.left is not None:
            return
        socket.connection.left, socket.connection.leaving = time.time(), how
        if how == "closed":
            socket.transport.send_close(WSCloseCode.OK)
        else:
            socket.transport.disconnect(graceful=False)

    def fall_silent(self, *, half_open: bool) -> None:
        """Never answer again. With `half_open`, no packet of the socket arrives any more either, as if its machine had
        lost the network.
        """
        socket = self.socket
        if socket is None or not socket.connection.open:
            return
        socket.connection.silent = time.time()
        self.wants_connection = False
        if half_open:
            port = socket.transport.underlying_transport.get_extra_info("sockname")[1]
            self._cluster.nodes[socket.connection.node].client_relay.hold_one(port)

    # Messages

    def on_ready(self, socket: TabSocket) -> None:
        for known in sorted(self.person.conversations):
            socket.delivery.resume(known, self.last_read.get(known, 0))
        for client_id, (conversation, text) in self._outbox.items():
            socket.send_frame("user_message", client_id=client_id, conversation=conversation, text=text)

    def send_message(self) -> None:
        """Send a message in a known conversation or a new one, and keep it in the outbox until it is acknowledged."""
        if self.socket is None or not self.socket.connection.open:
            return
        known = sorted(self.person.conversations)
        conversation = self._rng.choice(known) if len(known) >= 2 else None
        client_id, text = str(uuid.UUID(int=self._rng.getrandbits(128), version=4)), self._rng.choice(MESSAGES)
        self._outbox[client_id] = (conversation, text)
        self.history.sent.add(client_id)
        self.socket.send_frame("user_message", client_id=client_id, conversation=conversation, text=text)
        if self._rng.random() < 0.1:  # a page that has seen no ack sends the message again
            self.socket.send_frame("user_message", client_id=client_id, conversation=conversation, text=text)

    def acknowledged(self, frame: dict[str, Any]) -> None:
        self._outbox.pop(frame["client_id"], None)
        self.person.conversations.add(frame["conversation"])
        ack = Ack(self.person.user.name, frame["client_id"], frame["conversation"], frame["seq"])
        self.history.acks.append(ack)

    def resend(self) -> None:
        """Send up to five messages again that were answered with an error or not at all."""
        if self.socket is not None and self.socket.connection.open:
            for client_id, (conversation, text) in list(self._outbox.items())[:5]:
                self.socket.send_frame("user_message", client_id=client_id, conversation=conversation, text=text)
