"""The heartbeat of a node, over real managers and a clock of the test: which clients it pings, and which it judges."""

import asyncio
import json
import uuid
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.utils import timezone

from connections.conf import Tunables
from connections.node.keepalive import Keepalive
from connections.policy.admission import Admission, Handshake
from connections.policy.states import ProbeMode, Verdict
from connections.websocket import clock
from connections.websocket.asgi_types import Message
from connections.websocket.host import Host
from connections.websocket.manager import Manager
from connections.websocket.registry import Registry

VALUES = Tunables()


class Setting:
    """A node with a heartbeat and no database. `sleep` lets time pass without a tick, as in a process that sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = 1000.0
        monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: self._real))
        self.clock = clock.NodeClock()
        self.registry = Registry()
        self.heartbeat = Keepalive(self.registry, self.clock, VALUES)
        self.sent: list[str] = []
        self.heartbeat.begin_tick()

    def manager(self, *, accepted: bool = True) -> Manager:
        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            self.sent.append(json.loads(message["text"])["type"])

        host = cast("Host", SimpleNamespace(clock=self.clock, tunables=VALUES))
        scope: dict[str, Any] = {"type": "websocket"}
        manager = Manager(host, scope, receive, send, handshake=Handshake(uuid.uuid4(), 1, "chat"), inject=True)
        manager.admission = Admission(1, 20, 25)
        manager.accepted = accepted
        self.registry.add(manager)
        return manager

    def sleep(self, seconds: float) -> None:
        self._real += seconds

    async def tick(self, *, late: float = 0.0) -> None:
        """Run the next tick, `late` seconds after its time, and wait until its frames are sent."""
        self.sleep(VALUES.tick_seconds + late)
        await self.heartbeat.tick()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def ticks(self, seconds: float) -> None:
        for _ in range(round(seconds / VALUES.tick_seconds)):
            await self.tick()


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Setting:
    return Setting(monkeypatch)


def test_a_late_tick_pings_each_client_that_is_due_for_a_ping(node: Setting) -> None:
    async def scenario() -> None:
        node.manager()
        await node.ticks(VALUES.heartbeat_seconds - VALUES.tick_seconds)
        assert node.sent == []
        await node.tick(late=60)
        assert node.sent == ["ping"]

    asyncio.run(scenario())


def test_a_late_tick_counts_as_one_period_of_a_clients_time_however_late_it_is(node: Setting) -> None:
    async def scenario() -> None:
        manager = node.manager()
        await node.ticks(VALUES.heartbeat_seconds)
        assert node.sent == ["ping"]
        await node.ticks(VALUES.pong_seconds - 2 * VALUES.tick_seconds)
        await node.tick(late=60)
        assert not manager.closing
        await node.tick(late=60)
        assert manager.closing

    asyncio.run(scenario())


def test_a_late_tick_ends_a_roll_call_when_its_time_without_the_lateness_is_over(node: Setting) -> None:
    async def scenario() -> None:
        silent, answering = node.manager(), node.manager()
        await node.tick()
        for manager in (silent, answering):
            node.heartbeat.begin_probe(manager, timezone.now(), ProbeMode.CLOSE)
        await node.ticks(VALUES.probe_seconds - 2 * VALUES.tick_seconds)
        answering.last_received_at = node.clock.now()
        await node.tick(late=60)
        assert silent.probe is not None
        assert answering.probe is not None
        assert (silent.probe.verdict, answering.probe.verdict) == (None, Verdict.ALIVE)
        await node.tick(late=60)
        assert silent.probe.verdict is Verdict.UNRESPONSIVE
        assert silent.closing

    asyncio.run(scenario())


def test_a_roll_call_that_begins_before_a_late_tick_does_not_count_the_time_slept(node: Setting) -> None:
    async def scenario() -> None:
        opening, silent = node.manager(accepted=False), node.manager()
        await node.tick()
        node.sleep(60)
        for manager in (opening, silent):
            node.heartbeat.begin_probe(manager, timezone.now(), ProbeMode.CLOSE)
        assert not opening.closing
        await node.tick()
        assert opening.probe is not None
        assert opening.probe.verdict is Verdict.ALIVE
        await node.ticks(VALUES.probe_seconds)
        assert silent.probe is not None
        assert silent.probe.verdict is Verdict.UNRESPONSIVE, "its time runs from the tick that set the clock back"

    asyncio.run(scenario())


def test_a_handler_that_took_a_frame_before_a_late_tick_gets_its_whole_time_before_it_is_stuck(node: Setting) -> None:
    """The handler took the frame at a time of the node's clock that the late tick then set back by a minute."""

    async def scenario() -> None:
        manager = node.manager()
        await node.tick()
        node.sleep(60)
        for _ in range(2):
            manager.inbound.put({"type": "websocket.receive", "text": "work"})
        await manager.inbound.receive()
        await node.tick()
        await node.ticks(VALUES.stuck_seconds - 2 * VALUES.tick_seconds)
        assert not manager.closing
        await node.ticks(3 * VALUES.tick_seconds)
        assert manager.closing

    asyncio.run(scenario())
