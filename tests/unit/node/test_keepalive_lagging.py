"""A node whose ticks come late, once or always: whoever answers in time lives, and whoever is half-open is closed."""

import asyncio
import math
import uuid
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connections.conf import Tunables
from connections.node.keepalive import Keepalive
from connections.policy.admission import Admission, Handshake
from connections.websocket import clock
from connections.websocket.asgi_types import Message
from connections.websocket.host import Host
from connections.websocket.manager import Manager
from connections.websocket.registry import Registry

VALUES = Tunables(heartbeat_seconds=3, pong_seconds=2)
PERIOD = VALUES.tick_seconds
HOPS = 6  # iterations of the event loop from the kernel to the manager: one more than on any server that we know
# Ticks from a client's last frame to its end, however late they are: to the ping, and from it.
TICKS = math.ceil(VALUES.heartbeat_seconds / PERIOD) + math.ceil(VALUES.pong_seconds / PERIOD)


class Client:
    """The client of one manager: it answers each ping `answers_after` seconds after it was sent; None: never."""

    def __init__(self, node: "LaggingNode", answers_after: float | None) -> None:
        self.answers_after = answers_after
        self.answer_at: float | None = None
        self._node = node
        host = cast("Host", SimpleNamespace(clock=node.clock, tunables=VALUES))
        scope: dict[str, Any] = {"type": "websocket"}
        shake = Handshake(uuid.uuid4(), 1, "chat")
        self.manager = Manager(host, scope, self._nothing, self._takes, handshake=shake, inject=True)
        self.manager.admission = Admission(1, 20, 25)
        self.manager.accepted = True
        node.registry.add(self.manager)

    async def _nothing(self) -> Message:
        raise AssertionError("no pump runs in this test")

    async def _takes(self, message: Message) -> None:
        if self.answers_after is not None:
            self.answer_at = self._node.real + self.answers_after

    def reaches_the_kernel(self) -> None:
        """Let the answer come to the event loop if it was sent by now."""
        if self.answer_at is not None and self.answer_at <= self._node.real:
            self.answer_at = None
            self._hop(HOPS)

    def _hop(self, left: int) -> None:
        if left:
            asyncio.get_running_loop().call_soon(self._hop, left - 1)
        else:
            self.manager._on_message({"type": "websocket.receive", "text": "an answer"})


class LaggingNode:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.real = 1000.0
        patch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: self.real))
        self.clock = clock.NodeClock()
        self.registry = Registry()
        self.keepalive = Keepalive(self.registry, self.clock, VALUES)
        self.keepalive.begin_tick()

    async def tick(self, late: float, clients: list[Client]) -> None:
        """Let a period and `late` seconds pass in which the event loop does not run, then run the tick."""
        self.real += PERIOD + late
        for client in clients:
            client.reaches_the_kernel()
        await self.keepalive.tick()
        await asyncio.sleep(0)  # the sends in the background
        await asyncio.sleep(0)


lateness = st.floats(0, 0.5) | st.floats(0, 120)


@given(
    lates=st.lists(lateness, min_size=1, max_size=10),
    answers_after=st.floats(0, VALUES.pong_seconds, exclude_max=True),
)
@example(lates=[PERIOD], answers_after=0.0)
@example(lates=[0.0], answers_after=VALUES.pong_seconds - 0.01)
@example(lates=[60.0, 0.0, 0.0], answers_after=1.0)
def test_however_late_the_ticks_are_only_the_half_open_client_is_closed_and_that_after_as_many_ticks(
    lates: list[float], answers_after: float
) -> None:
    """The bound in ticks is the one of a node that is never late, so a tick late by L makes it longer by L at most."""

    async def scenario(node: LaggingNode) -> None:
        living, half_open = Client(node, answers_after), Client(node, None)
        for number in range(3 * TICKS):
            # The clock leaves out lateness of more than half a period; what is less only brings the end nearer.
            await node.tick(lates[number % len(lates)], [living, half_open])
            assert not living.manager.closing, f"closed at tick {number + 1}: {living.manager._order}"
            assert half_open.manager.closing or number + 1 < TICKS, "not closed after its heartbeat and its pong"
        assert half_open.manager.closing

    with pytest.MonkeyPatch.context() as patch:
        asyncio.run(scenario(LaggingNode(patch)))
