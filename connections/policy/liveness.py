"""Whether the client of a manager lives: pure functions over its facts. Times are seconds on the node's clock."""

from dataclasses import dataclass

from connections.policy.states import CloseReason, Verdict


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
