"""The built-in agent's words for close reasons and times. Pure."""

from datetime import datetime

from connections.policy.states import CloseReason
from connections.policy.wording import duration

ENDINGS: dict[str, str] = {
    CloseReason.CLIENT_CLOSED: "it was closed there",
    CloseReason.CLIENT_GONE: "its connection was lost",
    CloseReason.APP_CLOSED: "the chat closed it",
    CloseReason.HANDLER_FAILED: "something went wrong on our side",
    CloseReason.NODE_DRAINING: "its server was restarted",
    CloseReason.NODE_LOST: "its server went away",
    CloseReason.ORPHANED: "it was already gone",
    CloseReason.UNRESPONSIVE: "it did not answer any more",
    CloseReason.STUCK: "it was stuck",
    CloseReason.NEVER_OPENED: "it never opened completely",
    CloseReason.EVICTED: "you had too many open, and it was the least active",
    CloseReason.REPLACED: "the same tab connected again",
    CloseReason.RESET: "all your sessions were reset by support",
    CloseReason.CLOSED_BY_USER: "you signed it out from another session",
    CloseReason.CLOSED_BY_STAFF: "support closed it",
    CloseReason.SESSION_ENDED: "you logged out",
    CloseReason.ACCOUNT_DISABLED: "the account was disabled",
    CloseReason.PROTOCOL_ABUSE: "it sent too much, too fast",
    CloseReason.TOO_BIG: "it sent something too big",
}


def age(since: str, now: datetime) -> str:
    """The time from `since`, in ISO 8601, to `now`: `45 s`, `3 min`."""
    return duration((now - datetime.fromisoformat(since)).total_seconds())
