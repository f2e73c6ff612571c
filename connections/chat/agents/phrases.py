"""Numbers, times and reasons in plain words. Pure."""

from datetime import datetime

from connections.policy.states import CloseReason

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


def count(number: int, noun: str) -> str:
    """ "1 session", "2 sessions"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def age(since: str, now: datetime) -> str:
    """From an ISO 8601 time to `now`: "45 s", "3 min", "2 h", "5 d"."""
    seconds = max(0, int((now - datetime.fromisoformat(since)).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
