"""The catalogue of states, reasons and verdicts: every word that is stored, sent or shown."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class OpenEnum(StrEnum):
    """Words that are read from rows, where a node of a newer version may have written one that this version lacks.

    Calling the class with such a word returns a value that equals it and stands for nothing else, so that no reader
    fails. Whoever checks input asks `known`.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        word = str.__new__(cls, value)
        word._name_ = word._value_ = str(value)
        return word

    @property
    def known(self) -> bool:
        """Whether this version has the word."""
        return self._value_ in type(self)._value2member_map_


class RecordState(StrEnum):
    """The stored state of a manager record. `live` ones are counted; `live` and `closing` ones are held."""

    LIVE = "live"
    CLOSING = "closing"
    CLOSED = "closed"


HELD = (RecordState.LIVE, RecordState.CLOSING)


class CloseReason(OpenEnum):
    """Why a record was closed. The first reason written stands."""

    CLIENT_CLOSED = "client_closed"
    CLIENT_GONE = "client_gone"
    APP_CLOSED = "app_closed"
    HANDLER_FAILED = "handler_failed"
    NODE_DRAINING = "node_draining"
    NODE_LOST = "node_lost"
    ORPHANED = "orphaned"
    UNRESPONSIVE = "unresponsive"
    STUCK = "stuck"
    NEVER_OPENED = "never_opened"
    EVICTED = "evicted"
    REPLACED = "replaced"
    RESET = "reset"
    CLOSED_BY_USER = "closed_by_user"
    CLOSED_BY_STAFF = "closed_by_staff"
    SESSION_ENDED = "session_ended"
    ACCOUNT_DISABLED = "account_disabled"
    PROTOCOL_ABUSE = "protocol_abuse"
    TOO_BIG = "too_big"


class Refused(OpenEnum):
    """Why a handshake was refused. All but those of the account are transient."""

    RATE_LIMITED = "rate_limited"
    NODE_FULL = "node_full"
    NODE_DRAINING = "node_draining"
    TRY_AGAIN = "try_again"
    LOGIN_REQUIRED = "login_required"
    ACCOUNT_DISABLED = "account_disabled"
    REPLACED = "replaced"


class Reconnect(StrEnum):
    """What a closed client should do by itself."""

    AFTER = "after"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class ClosingFrame:
    """What a client is sent when its socket is closed for one reason: the code, and what the `closing` frame says.

    `delay` is the range in seconds from which the server draws `retry_after`. `wire_reason` is the reason in the frame,
    if it differs from the catalogue's.
    """

    code: int
    reconnect: Reconnect
    delay: tuple[float, float] = (0.0, 0.0)
    wire_reason: str = ""


_SOON = (0.5, 3.0)
_SPREAD = (0.5, 5.0)  # whole nodes and resets come back over five seconds, not at once
_SHORT = (1.0, 4.0)

CLOSING_FRAMES: dict[str, ClosingFrame] = {
    CloseReason.TOO_BIG: ClosingFrame(4009, Reconnect.NEVER),
    CloseReason.NODE_DRAINING: ClosingFrame(4012, Reconnect.AFTER, _SPREAD),
    CloseReason.NODE_LOST: ClosingFrame(4012, Reconnect.AFTER, _SPREAD),
    Refused.NODE_FULL: ClosingFrame(4013, Reconnect.AFTER, _SHORT, wire_reason="try_again"),
    Refused.TRY_AGAIN: ClosingFrame(4013, Reconnect.AFTER, _SHORT),
    CloseReason.PROTOCOL_ABUSE: ClosingFrame(4400, Reconnect.NEVER),
    Refused.LOGIN_REQUIRED: ClosingFrame(4401, Reconnect.NEVER),
    CloseReason.SESSION_ENDED: ClosingFrame(4403, Reconnect.NEVER),
    CloseReason.ACCOUNT_DISABLED: ClosingFrame(4403, Reconnect.NEVER),
    CloseReason.UNRESPONSIVE: ClosingFrame(4408, Reconnect.AFTER, _SOON),
    CloseReason.STUCK: ClosingFrame(4408, Reconnect.AFTER, _SOON),
    CloseReason.NEVER_OPENED: ClosingFrame(4408, Reconnect.AFTER, _SOON),
    CloseReason.ORPHANED: ClosingFrame(4408, Reconnect.AFTER, _SOON),
    CloseReason.CLIENT_GONE: ClosingFrame(4408, Reconnect.AFTER, _SOON),
    CloseReason.EVICTED: ClosingFrame(4409, Reconnect.NEVER),
    CloseReason.REPLACED: ClosingFrame(4409, Reconnect.NEVER),
    CloseReason.CLOSED_BY_STAFF: ClosingFrame(4410, Reconnect.AFTER, _SHORT),
    CloseReason.RESET: ClosingFrame(4411, Reconnect.AFTER, _SPREAD),
    CloseReason.CLOSED_BY_USER: ClosingFrame(4412, Reconnect.NEVER),
    Refused.RATE_LIMITED: ClosingFrame(4429, Reconnect.AFTER, _SHORT),
    CloseReason.HANDLER_FAILED: ClosingFrame(4500, Reconnect.AFTER, _SHORT),
}

# For a word of a newer version: nothing is known against the client, so it may come back.
_UNKNOWN_FRAME = ClosingFrame(4408, Reconnect.AFTER, _SOON)


def closing_frame(reason: str) -> ClosingFrame:
    """Return what a client is sent for a reason, also for one that only a newer version has."""
    return CLOSING_FRAMES.get(reason, _UNKNOWN_FRAME)


def is_sent(reason: str) -> bool:
    """Whether a client may be sent this close reason. No reason and the ends that need none, such as
    `client_closed`, are not; a reason that only a newer version has is.
    """
    return reason in CLOSING_FRAMES or (bool(reason) and not CloseReason(reason).known)


class ProbeMode(OpenEnum):
    """What a node does with a client that stays silent in a roll call."""

    REPORT = "report"
    CLOSE = "close"


class Verdict(OpenEnum):
    """What is known of one manager in a roll call."""

    ALIVE = "alive"
    UNRESPONSIVE = "unresponsive"
    NODE_LOST = "node_lost"
    ORPHANED = "orphaned"
    NEVER_OPENED = "never_opened"
    STUCK = "stuck"
    MOVED = "moved"
    UNKNOWN = "unknown"


DEAD = frozenset({Verdict.UNRESPONSIVE, Verdict.NODE_LOST, Verdict.ORPHANED, Verdict.NEVER_OPENED, Verdict.STUCK})


class Action(OpenEnum):
    """What a run did, or would do, with one manager."""

    SPARED = "spared"
    FREED = "freed"
    EVICTED = "evicted"
    CLOSED = "closed"
    UNCONFIRMED = "unconfirmed"
    WAITING = "waiting"
    WOULD_FREE = "would_free"
    WOULD_EVICT = "would_evict"
    WOULD_CLOSE = "would_close"


class RunKind(OpenEnum):
    CLEANUP = "cleanup"
    RESET = "reset"


class Outcome(OpenEnum):
    RECOVERED = "recovered"
    NOTHING_TO_DO = "nothing_to_do"
    PARTIAL = "partial"
    FAILED = "failed"


class Step(OpenEnum):
    """The steps of a run, in order."""

    TAKE_STOCK = "take_stock"
    ROLL_CALL = "roll_call"
    FREE = "free"
    EVICT = "evict"
    CONFIRM = "confirm"
    VERIFY = "verify"
    REPORT = "report"


STEPS = tuple(Step)


class ActorKind(OpenEnum):
    SYSTEM = "system"
    STAFF = "staff"
    USER = "user"
    COMMAND = "command"


class CauseCode(StrEnum):
    """Why a user can't connect, or what stands in the way soon."""

    NODE_LOST = "node_lost"
    ORPHANED = "orphaned"
    UNRESPONSIVE = "unresponsive"
    NEVER_OPENED = "never_opened"
    STUCK = "stuck"
    UNKNOWN = "unknown"
    OVER_LIMIT = "over_limit"
    AT_LIMIT = "at_limit"
    ACCOUNT_DISABLED = "account_disabled"
    RATE_LIMITED = "rate_limited"
    NODES_DRAINING = "nodes_draining"
    NODES_FULL = "nodes_full"
    NO_NODE = "no_node"
    DATABASE_SLOW = "database_slow"
    HEALTHY = "healthy"


class Suggestion(StrEnum):
    RECOVER = "recover"
    RESET = "reset"
    WAIT = "wait"
    ENABLE_ACCOUNT = "enable_account"
    NONE = "none"
