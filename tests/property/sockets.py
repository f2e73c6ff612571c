"""The nodes and sockets of the world: real node clocks, heartbeats and token buckets, and simulated clients."""

import uuid
from dataclasses import dataclass
from typing import Literal, cast

from connections.conf import Rate, Tunables
from connections.models import ManagerRecord, Node
from connections.node.keepalive import Keepalive
from connections.policy.admission import Admission
from connections.policy.liveness import Pulse
from connections.policy.states import CloseReason, Verdict
from connections.policy.token_bucket import TokenBucket
from connections.websocket.clock import NodeClock
from connections.websocket.manager import Manager
from connections.websocket.probe import Probe
from connections.websocket.registry import Registry

VALUES = Tunables(
    soft_limit=3,
    burst=2,
    heartbeat_seconds=5,
    pong_seconds=2,
    probe_seconds=1.5,
    stuck_seconds=6,
    handshake_seconds=3,
    send_seconds=4,
    connect_rate=Rate(6, 3.0),
)
TICK = VALUES.tick_seconds
Mood = Literal["answers", "silent", "stuck", "unread", "unopened"]


@dataclass(eq=False)
class Socket:
    """A fake of the part of `Manager` that the heartbeat uses, and the client's real state, hidden from it."""

    node: "ModelNode"
    row: ManagerRecord
    mood: Mood
    opened: float
    inject: bool = True
    admission: Admission | None = None
    probe: Probe | None = None
    observed: CloseReason | None = None
    pinged_at: float | None = None
    send_blocked_since: float | None = None
    busy_since: float | None = None
    frames_waiting: int = 0
    owed: bool = False  # the client has been asked, and has not answered yet
    speaks: bool = False  # a frame of the client, other than a pong, is on its way
    ended: tuple[CloseReason, str] | None = None
    quiet_ticks: int = 0  # ticks of the node since the client last answered
    bad_ticks: int = 0  # ticks of the node since the mood ceased to be "answers"

    def __post_init__(self) -> None:
        self.last_received_at = self.last_sent_at = self.last_active_at = self.opened
        if self.mood == "unopened":
            self.busy_since = self.opened

    @property
    def id(self) -> uuid.UUID:
        return self.row.pk

    @property
    def quiet(self) -> bool:
        return self.mood in ("silent", "unread")

    @property
    def closing(self) -> bool:
        return self.ended is not None

    def pulse(self, now: float) -> Pulse:
        return Pulse(
            opened=self.opened,
            accepted=self.mood != "unopened",
            last_received_at=self.last_received_at,
            last_sent_at=self.last_sent_at,
            pinged_at=self.pinged_at,
            busy_since=self.busy_since,
            frames_waiting=self.frames_waiting,
            send_blocked_since=self.send_blocked_since,
            probeable=self.inject,
        )

    def clock_set_back(self, now: float) -> None:
        self.opened = min(self.opened, now)
        self.last_received_at, self.last_sent_at = min(self.last_received_at, now), min(self.last_sent_at, now)
        self.last_active_at = min(self.last_active_at, now)
        self.busy_since = None if self.busy_since is None else min(self.busy_since, now)
        self.send_blocked_since = None if self.send_blocked_since is None else min(self.send_blocked_since, now)

    def ping(self) -> None:
        if self.pinged_at is None:
            self.pinged_at = self.node.clock.now()
        self.send_ping()

    def send_ping(self) -> None:
        self.last_sent_at = self.node.clock.now()
        self.owed = True

    def order_close(self, reason: CloseReason, evidence: str) -> None:
        if self.ended is None:
            self.ended = reason, evidence

    def deliver(self) -> None:
        """Receive the frames that the client has sent since the last tick."""
        if self.mood not in ("answers", "stuck") or not (self.owed or self.speaks):
            return
        self.last_received_at, self.pinged_at = self.node.clock.now(), None
        if self.speaks:
            self.last_active_at = self.last_received_at
        if self.probe is not None and self.probe.verdict is None:
            self.probe.answer(Verdict.ALIVE, "answered the roll call")
        self.owed = self.speaks = False

    def turn(self, mood: Mood) -> None:
        """Change the state of the client or the handler."""
        if mood == self.mood:
            return
        now = self.node.clock.now()
        if not self.quiet:
            self.quiet_ticks = 0
        self.mood, self.bad_ticks = mood, 0
        self.busy_since = now if mood == "stuck" else None
        self.frames_waiting = 1 if mood == "stuck" else 0
        self.send_blocked_since = now if mood == "unread" else None
        if self.node.state == "up":
            self.deliver()


@dataclass(eq=False)
class ModelNode:
    """One process. `row` is its node's row, which is a new one after a fence."""

    row: Node
    state: Literal["up", "paused", "dead"] = "up"
    beat_in: int = 0  # ticks

    def __post_init__(self) -> None:
        self.clock = NodeClock()
        self.registry = Registry()
        self.heartbeat = Keepalive(self.registry, self.clock, VALUES)
        self.buckets: dict[int, TokenBucket] = {}

    @property
    def sockets(self) -> list[Socket]:
        return cast("list[Socket]", self.registry.all())

    def add(self, socket: Socket) -> None:
        self.registry.add(cast("Manager", socket))

    def bucket(self, user: int, now: float) -> TokenBucket:
        rate = VALUES.connect_rate
        return self.buckets.setdefault(user, TokenBucket.full(rate.burst, rate.per_second, now))
