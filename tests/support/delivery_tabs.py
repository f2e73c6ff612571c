"""Tabs of one user that send, resume, page back, stop reading and reconnect at random, over real sockets, and the judge
of what each of their sockets was sent.
"""

import asyncio
import random
from dataclasses import dataclass, field
from uuid import uuid4

from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.support.clients import ChatClient, connect
from tests.support.databases import TestUser
from tests.support.servers import Server

PAGE = 100  # messages in the answer to `earlier`
LARGE = 4096  # characters of some messages, so that a client that reads nothing gets behind
WINDOW = 64 * 1024  # bytes of a client's receive buffer
PAUSE = 0.12  # seconds between two actions of a tab, on average
SEND_AGAIN_SECONDS = 2.5  # without an ack


@dataclass
class Socket:
    """One connection of a tab, and what it asked for: ("resume", after_seq) or ("earlier", before_seq), in order."""

    client: ChatClient
    asked: list[tuple[str, int]] = field(default_factory=list)


@dataclass
class Tab:
    """It keeps each message in its outbox until the ack comes. `old`: the last message that it may page back to."""

    user: TestUser
    conversation: str
    nodes: list[Server]
    chance: random.Random
    old: int
    sockets: list[Socket] = field(default_factory=list)
    outbox: dict[str, str] = field(default_factory=dict)
    sent_at: dict[str, float] = field(default_factory=dict)
    acks: dict[str, int] = field(default_factory=dict)

    @property
    def socket(self) -> Socket | None:
        return self.sockets[-1] if self.sockets and self.sockets[-1].client.is_open else None

    @property
    def last_seq(self) -> int:
        return max((f["seq"] for s in self.sockets for f in s.client.of("message")), default=self.old)

    def has(self, seq: int) -> bool:
        return self.last_seq == seq

    async def live(self, until: float) -> None:
        """Act at random until the event loop's clock shows `until`."""
        actions = [self.type, self.type, self.resume, self.resume, self.page_back, self.rest, self.reconnect]
        while asyncio.get_running_loop().time() < until:
            try:
                if self.socket is None:
                    await self.connect()
                self.take_acks()
                await self.send_outbox()
                await self.chance.choice(actions)()
            except (ConnectionClosed, InvalidHandshake, OSError, AssertionError, TimeoutError):
                await asyncio.sleep(0.2)  # the node is away; on to another one
            await asyncio.sleep(PAUSE * self.chance.uniform(0.2, 1.8))

    async def connect(self) -> None:
        window = WINDOW if self.chance.random() < 0.5 else None
        client = await connect(self.chance.choice(self.nodes), self.user, device=str(uuid4()), window=window, timeout=5)
        self.sockets.append(Socket(client))
        await client.expect("ready")

    async def type(self) -> None:
        number = len(self.acks) + len(self.outbox)
        self.outbox[str(uuid4())] = f"message {number} " + "x" * self.chance.choice([0, 0, LARGE])
        await self.send_outbox()

    async def send_outbox(self) -> None:
        """Send what has no ack, again and in order, over whichever node the tab is on."""
        now, socket = asyncio.get_running_loop().time(), self.socket
        for client_id, text in list(self.outbox.items()):
            if socket is not None and self.sent_at.get(client_id, -9.0) < now - SEND_AGAIN_SECONDS:
                self.sent_at[client_id] = now
                await socket.client.send("user_message", client_id=client_id, conversation=self.conversation, text=text)

    def take_acks(self) -> None:
        for frame in (f for s in self.sockets for f in s.client.of("ack")):
            seq = self.acks.setdefault(frame["client_id"], frame["seq"])
            assert seq == frame["seq"], f"{frame['client_id']} was acknowledged as {seq} and {frame['seq']}"
            self.outbox.pop(frame["client_id"], None)

    async def resume(self) -> None:
        if self.socket is not None:
            after = self.chance.randint(0, self.last_seq)
            self.socket.asked.append(("resume", after))
            await self.socket.client.send("resume", conversation=self.conversation, after_seq=after)

    async def page_back(self) -> None:
        if self.socket is not None:
            before = self.chance.randint(2, self.old + 1)
            self.socket.asked.append(("earlier", before))
            await self.socket.client.send("earlier", conversation=self.conversation, before_seq=before)

    async def rest(self) -> None:
        """Read nothing for a while."""
        if self.socket is not None:
            self.socket.client.stop_reading()
            await asyncio.sleep(self.chance.uniform(0.2, 1.0))
            self.socket.client.go_on_reading()

    async def reconnect(self) -> None:
        if self.socket is not None and self.chance.random() < 0.3:
            await self.socket.client.vanish()

    async def finish(self) -> None:
        """Go on until every message of this tab is acknowledged."""
        while self.outbox:
            if self.socket is None:
                await self.connect()
            self.take_acks()
            await self.send_outbox()
            await asyncio.sleep(0.05)


def judge(socket: Socket, conversation: str, old: int) -> None:
    """Check what one socket was sent of a conversation: each number once, besides the pages that it asked for; each
    resume brought all that it asked for before its `resumed`; and what is above `old` came in order.
    """
    came, asked = list[int](), list(socket.asked)
    order = Order()
    for frame in socket.client.frames:
        if frame.get("conversation") != conversation:
            continue
        match frame["type"]:
            case "message":
                came.append(frame["seq"])
                if frame["seq"] > old:
                    order.came(frame["seq"])
            case "resumed" | "earlier" | "error" if "client_id" not in frame:  # the server answers in order
                kind, seq = asked.pop(0)
                if frame["type"] == "resumed":
                    assert kind == "resume"
                    order.resumed(seq, frame["last_seq"], came)
    pages = [range(max(1, seq - PAGE), seq) for kind, seq in socket.asked if kind == "earlier"]
    for seq in set(came):
        right = 1 + sum(seq in page for page in pages)
        assert came.count(seq) <= right, f"{seq} came {came.count(seq)} times, {right} are right: {came}"


class Order:
    """New messages ascend without a gap from the first that came; a resume brings older ones, and they ascend too."""

    def __init__(self) -> None:
        self.live: range | None = None
        self.older = 0  # the last one below the live ones, since the last `resumed`

    def came(self, seq: int) -> None:
        if self.live is None or seq == self.live.stop:
            self.live = range(seq if self.live is None else self.live.start, seq + 1)
            return
        assert seq < self.live.start, f"{seq} came after {self.live.stop - 1}"
        assert seq > self.older, f"{seq} came after {self.older}"
        self.older = seq

    def resumed(self, after: int, last: int, came: list[int]) -> None:
        missed = set(range(after + 1, last + 1)) - set(came)
        assert not missed, f"a resume after {after} ended at {last} without {sorted(missed)}"
        self.older = 0
