"""The clients of an outage: living ones that send and get answers, and newcomers whose handshakes are timed."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import uuid4

from picows import WSTransport

from benchmarks.client import FAILED, Socket, connect
from tests.support.databases import TestUser
from tests.support.servers import Server

ADMITTED = "admitted"
TRY_AGAIN = "try_again"
PATIENCE_SECONDS = 10.0  # the server decides within 4
TALK_SECONDS = 1.0  # between two messages of a living client
ASK_AGAIN_SECONDS = 5.0  # a message without an answer is sent again, as the page does
STAY_SECONDS = 0.1  # how long an admitted newcomer stays
RETRY_SECONDS = 1.0  # the longest that an insistent client waits, whatever it was told


class Visitor(Socket):
    """A client that keeps the reason with which the server refused or closed it."""

    def __init__(self) -> None:
        super().__init__()
        self.connected = False
        self.decided = asyncio.Event()  # admitted, or told why not, or the connection has ended
        self.reason = ""
        self.retry_after = 0.0
        self.left_at: float | None = None
        """`time.time()` at which the client itself closed."""

    @property
    def manager(self) -> str:
        return self.greeting.get("manager", "")

    @property
    def is_open(self) -> bool:
        return self.ready.is_set() and self.code is None and self.left_at is None

    def text(self, payload: bytes) -> None:
        super().text(payload)
        frame = json.loads(payload)
        if frame["type"] == "closing":
            self.reason, self.retry_after = frame["reason"], float(frame["retry_after"] or 0)
        if frame["type"] in ("ready", "closing"):
            self.decided.set()
        self.answered(frame)

    def on_ws_connected(self, transport: WSTransport) -> None:
        super().on_ws_connected(transport)
        self.connected = True

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        super().on_ws_disconnected(transport)
        self.decided.set()

    def answered(self, frame: dict[str, object]) -> None:
        """Do nothing: only living clients wait for answers."""

    async def leave(self) -> None:
        """Close as a page does, and do not mind if the server has gone."""
        if self.left_at is None:
            self.left_at = time.time()
        with suppress(*FAILED):
            await self.close()


class Living(Visitor):
    """A client that sends a message each second and notes how long it waited for an ack or an error."""

    def __init__(self) -> None:
        super().__init__()
        self.longest_wait = 0.0
        self.answers = 0
        self._conversation: object = None
        self._asked_at: float | None = None
        self._sent_at = 0.0

    def answered(self, frame: dict[str, object]) -> None:
        if frame["type"] in ("ack", "error") and self._asked_at is not None:
            self.longest_wait = max(self.longest_wait, time.monotonic() - self._asked_at)
            self._asked_at = None
            self._conversation = frame.get("conversation") or self._conversation
            self.answers += 1

    async def talk(self) -> None:
        """Send messages until the socket is closed."""
        while self.is_open:
            now = time.monotonic()
            if self._asked_at is None or now - self._sent_at > ASK_AGAIN_SECONDS:
                self._asked_at = self._asked_at or now
                self._sent_at = now
                message = {"client_id": str(uuid4()), "conversation": self._conversation, "text": "Help"}
                self.send(json.dumps({"type": "user_message", **message}).encode())
            await asyncio.sleep(TALK_SECONDS)


@dataclass(frozen=True)
class Attempt:
    """One handshake. `outcome` is `admitted`, the reason of the refusal, `no answer` or `no connection`."""

    began: float  # time.time()
    seconds: float
    outcome: str
    node: str
    client: Visitor | None = None

    @property
    def ended(self) -> float:
        return self.began + self.seconds


V = TypeVar("V", bound=Visitor)


async def knock(server: Server, user: TestUser, make: Callable[[], V]) -> tuple[Attempt, V | None]:
    """Connect once and wait for the decision; return the client if it was admitted. Do not cancel it: the socket of an
    opening handshake would stay open.
    """
    began, clock = time.time(), time.monotonic()
    client = make()
    try:
        # picows returns no listener if the server has closed by then; `client` has got its frames all the same.
        await connect(f"{server.ws_url}/ws/chat/?device={uuid4()}", user.cookie, lambda: client)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await client.decided.wait()
    except FAILED as error:
        if client.connected and client.code is None:
            client.transport.disconnect(graceful=False)
        outcome = "no answer" if isinstance(error, TimeoutError) else "no connection"
        return Attempt(began, time.monotonic() - clock, outcome, server.log.stem), None
    outcome = ADMITTED if client.ready.is_set() else client.reason or f"code {client.code}"
    admitted = client if client.ready.is_set() else None
    return Attempt(began, time.monotonic() - clock, outcome, server.log.stem, admitted), admitted


@dataclass
class Newcomers:
    """Handshakes of one group of users, in turn on each node. Each admitted one leaves soon, unless it `stays`."""

    nodes: list[Server]
    users: list[TestUser]
    attempts: list[Attempt] = field(default_factory=list)
    _tasks: set[asyncio.Task[Visitor | None]] = field(default_factory=set)

    async def come(self, every: float) -> None:
        """Begin a handshake each `every` seconds, whatever became of the earlier ones. Cancel it to end it."""
        number = 0
        while True:
            self._visit(number)
            number += 1
            await asyncio.sleep(every)

    async def insist(self, number: int) -> None:
        """Try again within a second of each refusal, whatever the server says, until admitted; then stay."""
        while True:
            client = await asyncio.shield(self._visit(number, stays=True))
            if client is not None:
                await client.closed.wait()
            await asyncio.sleep(RETRY_SECONDS)

    def _visit(self, number: int, *, stays: bool = False) -> asyncio.Task[Visitor | None]:
        """Begin a handshake that goes on when its caller is cancelled."""
        task = asyncio.create_task(self._one(number, stays), name="newcomer")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _one(self, number: int, stays: bool) -> Visitor | None:
        node, user = self.nodes[number % len(self.nodes)], self.users[number % len(self.users)]
        attempt, client = await knock(node, user, Visitor)
        self.attempts.append(attempt)
        if client is not None and not stays:
            await asyncio.sleep(STAY_SECONDS)
            await client.leave()
        return client

    async def gone(self) -> None:
        """Wait for the handshakes under way, and have everybody leave."""
        await asyncio.gather(*self._tasks)
        staying = [attempt.client for attempt in self.attempts if attempt.client is not None and attempt.client.is_open]
        await asyncio.gather(*(client.leave() for client in staying))
