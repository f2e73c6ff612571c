"""What is decided, as functions over facts. Level 0: pure. `now` and limits are arguments.

Times of rows are datetimes on the database's clock; times of a manager and of a token bucket are seconds on its
node's clock. No function mixes the two.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from connections.states import CloseReason, Verdict

MAX_RETRY_AFTER = 30.0  # seconds; the contract's bound for a rate limited client
EARLY = 0.02  # seconds that a client may come before its time: it was told two decimals


@dataclass(frozen=True, slots=True)
class Holding:
    """One counted record, as admission and eviction see it."""

    id: UUID
    opened_at: datetime
    last_active_at: datetime
    on_late_node: bool = False
    overdue: bool = False
    turn: bool = False
    device: UUID | None = None
    attempt: int = 0


def rank(holdings: Iterable[Holding]) -> list[Holding]:
    """Victims first: on a late node, overdue for a pong, no agent turn in flight, least recently active.

    The id breaks ties, so that two nodes that look at the same rows choose the same victim.
    """
    return sorted(holdings, key=lambda h: (not h.on_late_node, not h.overdue, h.turn, h.last_active_at, h.id))


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A handshake that asks for a slot."""

    id: UUID
    device: UUID | None
    attempt: int


@dataclass(frozen=True, slots=True)
class Admission:
    """What a handshake gets. `live` counts the newcomer too.

    `replaced` is the older record of the same device, `evicted` the one that ranked first at the ceiling;
    `superseded` says that the newcomer itself lost to a younger connect of its device, and then nothing changes.
    """

    live: int
    soft_limit: int
    ceiling: int
    replaced: UUID | None = None
    evicted: UUID | None = None
    superseded: bool = False
    open_run: bool = False
    costs_two: bool = False
    at: datetime | None = None  # on the database's clock


def admit(
    newcomer: Newcomer,
    counted: Sequence[Holding],
    *,
    soft_limit: int,
    burst: int,
    now: datetime,
    handshake: timedelta,
    enforce: bool = True,
) -> Admission:
    """Decide one admission over the counted records of one user and pool. Never refuses."""
    ceiling = soft_limit + burst
    others = list(counted)
    replaced: UUID | None = None
    if newcomer.device is not None and enforce:
        same = [h for h in others if h.device == newcomer.device]
        if any(h.attempt > newcomer.attempt and now - h.opened_at < handshake for h in same):
            return Admission(len(others), soft_limit, ceiling, superseded=True, at=now)
        if same:
            replaced = rank(same)[0].id
            others = [h for h in others if h.id != replaced]
    evicted: UUID | None = None
    if enforce and len(others) >= ceiling:
        evicted = rank(others)[0].id
        others = [h for h in others if h.id != evicted]
    live = len(others) + 1
    over = live > soft_limit
    return Admission(
        live,
        soft_limit,
        ceiling,
        replaced=replaced,
        evicted=evicted,
        open_run=over and enforce,
        costs_two=over and replaced is None and not any(h.on_late_node for h in counted),
        at=now,
    )


def excess(counted: Sequence[Holding], soft_limit: int, unclosable: Collection[UUID] = ()) -> list[Holding]:
    """Whom to evict to be back at the soft limit: by rank, exactly as many as needed, of those that can be closed."""
    closable = [holding for holding in counted if holding.id not in unclosable]
    return rank(closable)[: max(0, len(counted) - soft_limit)]


@dataclass(slots=True)
class TokenBucket:
    """The connect rate of one user on one node. A refused attempt takes nothing, so a retry never prolongs it.

    `tokens` may fall below zero: an admission above the soft limit costs a second token after the fact.

    A refused client is told a time. To a device that time is a promise (but for a queue that began anew): it is let
    in then, whoever came in between, and is told the same time if it asks before. A client without a device can't be
    told from others: its time is only reserved, so that nobody else was told it. If somebody who was told nothing
    takes the token first, it is refused again, and told a new time, again within MAX_RETRY_AFTER.
    """

    burst: int
    per_second: float
    tokens: float
    at: float
    pending: int = 0  # admissions under way, which may still cost a second token
    # Who was told to come back when: a device keeps its place, others are staggered.
    promises: dict[UUID, float] = field(default_factory=dict)
    promised_until: float = 0.0
    # Promises are kept, also when somebody who came in between took the token: they leave a debt. Only those of a
    # queue that has not begun anew are, so that many refusals give no more rights than the rate allows.
    rights: dict[UUID, float] = field(default_factory=dict)
    rights_until: float = 0.0

    @classmethod
    def full(cls, burst: int, per_second: float, now: float) -> "TokenBucket":
        return cls(burst, per_second, float(burst), now)

    def _refill(self, now: float) -> None:
        if now > self.at:
            self.tokens = min(float(self.burst), self.tokens + (now - self.at) * self.per_second)
            self.at = now

    def take(self, now: float, device: UUID | None = None) -> bool:
        self._refill(now)
        if self.tokens < 1 and not self._was_promised(now, device):
            return False
        self.tokens -= 1
        self.pending += 1
        return True

    def _was_promised(self, now: float, device: UUID | None) -> bool:
        if device is None or self.rights.get(device, float("inf")) > now + EARLY:
            return False
        del self.rights[device]
        return True

    def settle(self, now: float, *, costs_two: bool) -> None:
        """An attempt that took a token has ended. The debt is bounded, so that the wait of the next one is too."""
        self._refill(now)
        self.pending = max(0, self.pending - 1)
        if costs_two:
            self.tokens = max(self.tokens - 1, 1 - (MAX_RETRY_AFTER / 2) * self.per_second)

    def retry_after(self, now: float, device: UUID | None) -> float:
        """Seconds, at most MAX_RETRY_AFTER, after which an attempt finds a token.

        Each refused client gets a time of its own, two tokens apart, since it may cost two.
        """
        self._refill(now)
        earliest = now + max(0.0, (1 - self.tokens + self.pending) / self.per_second)
        latest = now + MAX_RETRY_AFTER
        if device is not None:
            kept = self.promises.get(device, 0.0)
            if kept > now:
                return kept - now
        slot = max(earliest, self.promised_until) + 2 / self.per_second
        if slot > latest:  # the queue is full: start again at its head, a retry finds what is free then
            slot = min(latest, earliest + 2 / self.per_second)
        self.promised_until = slot
        if device is not None:
            self.promises = {d: at for d, at in self.promises.items() if at > now}
            self.promises[device] = slot
            if slot > self.rights_until:
                self.rights_until = slot
                self.rights = {d: at for d, at in self.rights.items() if at > now - MAX_RETRY_AFTER}
                self.rights[device] = slot
        return max(0.0, slot - now)

    def idle(self, now: float) -> bool:
        """Full again and nobody waits: may be forgotten."""
        self._refill(now)
        return self.tokens >= self.burst and not self.pending and self.promised_until <= now


@dataclass(frozen=True, slots=True)
class Pulse:
    """The facts of one manager on its node's clock, in seconds. None: not the case."""

    opened: float
    accepted: bool
    heard: float  # the last inbound frame of any kind
    told: float  # the last outbound frame of any kind
    pinged: float | None  # the oldest ping that nothing has answered
    busy: float | None  # since when the handler has not come back for the next frame
    waiting: int  # frames that wait for it
    sending: float | None  # since when the server has not taken an outbound frame
    probeable: bool = True  # whether frames of ours may be sent on this route


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a node does about one manager now: `end` closes it, `ping` asks the client; neither: it is left alone."""

    end: CloseReason | None = None
    evidence: str = ""
    ping: bool = False


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a node waits, in seconds; the settings of the same names."""

    heartbeat: float
    pong: float
    probe: float
    stuck: float
    handshake: float
    send: float


def judge(pulse: Pulse, now: float, patience: Patience) -> Judgement:
    """The heartbeat's rule for one manager. While frames wait, the handler is judged and not the client."""
    if pulse.sending is not None and now - pulse.sending >= patience.send:
        return Judgement(CloseReason.CLIENT_GONE, f"took no bytes for {now - pulse.sending:.0f} s")
    if not pulse.accepted:
        if now - pulse.opened >= patience.handshake:
            waited = now - pulse.opened
            return Judgement(CloseReason.NEVER_OPENED, f"admitted {waited:.0f} s ago and never accepted")
        return Judgement()
    if pulse.waiting:
        if pulse.busy is not None and now - pulse.busy >= patience.stuck:
            held = now - pulse.busy
            return Judgement(
                CloseReason.STUCK, f"its handler was busy for {held:.0f} s while {pulse.waiting} frames waited"
            )
        return Judgement()
    if not pulse.probeable:
        return Judgement()
    if pulse.pinged is not None:
        if now - pulse.pinged >= patience.pong:
            silent = now - pulse.pinged
            return Judgement(CloseReason.UNRESPONSIVE, f"did not answer a ping for {silent:.0f} s")
        return Judgement()
    if now - min(pulse.heard, pulse.told) >= patience.heartbeat:
        return Judgement(ping=True)
    return Judgement()


def roll_call(pulse: Pulse, sent: float, now: float, patience: Patience) -> tuple[Verdict, str] | None:
    """What a node says of one manager in a roll call begun at `sent`; None while its client still has time."""
    if not pulse.accepted:
        waited = now - pulse.opened
        if waited >= patience.handshake:
            return Verdict.NEVER_OPENED, f"admitted {waited:.0f} s ago and never accepted"
        return Verdict.ALIVE, "still opening"
    if pulse.heard >= sent:
        return Verdict.ALIVE, "answered the roll call"
    if pulse.waiting:
        busy = 0.0 if pulse.busy is None else now - pulse.busy
        if busy >= patience.stuck:
            return Verdict.STUCK, f"its handler was busy for {busy:.0f} s while {pulse.waiting} frames waited"
        return Verdict.ALIVE, f"its handler is busy since {busy:.0f} s, its client is not judged"
    if not pulse.probeable:
        return Verdict.ALIVE, "its route takes no probe, and the server holds the connection"
    if now - sent >= patience.probe:
        return Verdict.UNRESPONSIVE, f"did not answer the roll call within {patience.probe:g} s"
    return None
