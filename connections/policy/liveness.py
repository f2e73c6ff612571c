"""Whether the client of a manager lives: pure functions over its facts. Times are seconds on the node's clock."""

from dataclasses import dataclass

from connections.policy.states import CloseReason, Verdict


@dataclass(frozen=True, slots=True)
class Pulse:
    """The facts of one manager, as times in seconds on its node's clock. None: not the case."""

    opened: float
    accepted: bool
    last_received_at: float  # the last inbound frame of any kind
    last_sent_at: float  # the last outbound frame of any kind
    pinged_at: float | None  # of the oldest ping that nothing has answered
    busy_since: float | None  # when the handler last ceased to wait for a frame
    frames_waiting: int  # for the handler
    send_blocked_since: float | None  # when the server stopped taking outbound frames
    probeable: bool = True  # whether frames of ours may be sent on this route
    waiting_since: float | None = None  # since when frames wait of which the handler has taken none

    def neglected_for(self, now: float) -> float:
        """Seconds for which frames have waited while the handler was busy and took none. A handler that was busy long
        before the first of them came has had no more time for it than that.
        """
        if not self.frames_waiting or self.busy_since is None:
            return 0.0
        return now - max(self.busy_since, self.busy_since if self.waiting_since is None else self.waiting_since)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The node's decision on one manager: close it for the reason `end`, ping its client if `ping`, or do nothing."""

    end: CloseReason | None = None
    evidence: str = ""
    ping: bool = False


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The time-outs of a node, in seconds: the settings of the same names."""

    heartbeat: float
    pong: float
    probe: float
    stuck: float
    handshake: float
    send: float


def judge(pulse: Pulse, now: float, timeouts: Timeouts) -> Judgement:
    """Judge one manager at a tick. While frames wait, judge the handler and not the client."""
    if pulse.send_blocked_since is not None and now - pulse.send_blocked_since >= timeouts.send:
        return Judgement(CloseReason.CLIENT_GONE, f"took no bytes for {now - pulse.send_blocked_since:.0f} s")
    if not pulse.accepted:
        if now - pulse.opened >= timeouts.handshake:
            waited = now - pulse.opened
            return Judgement(CloseReason.NEVER_OPENED, f"admitted {waited:.0f} s ago and never accepted")
        return Judgement()
    if pulse.frames_waiting:
        neglected = pulse.neglected_for(now)
        if neglected >= timeouts.stuck:
            return Judgement(CloseReason.STUCK, _stuck(pulse, neglected))
        return Judgement()
    if not pulse.probeable:
        return Judgement()
    if pulse.pinged_at is not None:
        if now - pulse.pinged_at >= timeouts.pong:
            silent = now - pulse.pinged_at
            return Judgement(CloseReason.UNRESPONSIVE, f"did not answer a ping for {silent:.0f} s")
        return Judgement()
    # In either direction: proxies cut a connection that is silent in one, and a sent frame does not prove a client.
    if now - min(pulse.last_received_at, pulse.last_sent_at) >= timeouts.heartbeat:
        return Judgement(ping=True)
    return Judgement()


def roll_call(pulse: Pulse, sent: float, now: float, timeouts: Timeouts) -> tuple[Verdict, str] | None:
    """The verdict on one manager in a roll call begun at `sent`, with its evidence; None while its client has time."""
    if not pulse.accepted:
        waited = now - pulse.opened
        if waited >= timeouts.handshake:
            return Verdict.NEVER_OPENED, f"admitted {waited:.0f} s ago and never accepted"
        return Verdict.ALIVE, "still opening"
    if pulse.last_received_at >= sent:
        return Verdict.ALIVE, "answered the roll call"
    if pulse.frames_waiting:
        neglected = pulse.neglected_for(now)
        if neglected >= timeouts.stuck:
            return Verdict.STUCK, _stuck(pulse, neglected)
        busy = 0.0 if pulse.busy_since is None else now - pulse.busy_since
        return Verdict.ALIVE, f"its handler was busy for {busy:.0f} s, its client is not judged"
    if not pulse.probeable:
        return Verdict.ALIVE, "its route takes no probe, and the server holds the connection"
    if now - sent >= timeouts.probe:
        return Verdict.UNRESPONSIVE, f"did not answer the roll call within {timeouts.probe:g} s"
    return None


def _stuck(pulse: Pulse, neglected: float) -> str:
    return f"its handler was busy for {neglected:.0f} s while {pulse.frames_waiting} frames waited"
