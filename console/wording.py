"""Words for the codes of the catalogue, for support staff to read out. Pure."""

from connections.policy.states import Action, CloseReason, Outcome, Refused, Step, Suggestion, Verdict
from connections.policy.wording import plural

REASONS: dict[str, str] = {
    CloseReason.CLIENT_CLOSED: "closed by the client",
    CloseReason.CLIENT_GONE: "the connection to the client was lost",
    CloseReason.APP_CLOSED: "closed by the application",
    CloseReason.HANDLER_FAILED: "its handler failed",
    CloseReason.NODE_DRAINING: "its node was drained",
    CloseReason.NODE_LOST: "its node was lost",
    CloseReason.ORPHANED: "its node had no such manager",
    CloseReason.UNRESPONSIVE: "the client did not answer",
    CloseReason.STUCK: "its handler was stuck",
    CloseReason.NEVER_OPENED: "it was never opened",
    CloseReason.EVICTED: "made room for a newer one",
    CloseReason.REPLACED: "replaced by the same device",
    CloseReason.RESET: "closed by a reset",
    CloseReason.CLOSED_BY_USER: "closed by the user",
    CloseReason.CLOSED_BY_STAFF: "closed by staff",
    CloseReason.SESSION_ENDED: "the log-in session ended",
    CloseReason.ACCOUNT_DISABLED: "the account was disabled",
    CloseReason.PROTOCOL_ABUSE: "the client broke the protocol",
    CloseReason.TOO_BIG: "the client sent too much at once",
}

REFUSALS: dict[str, str] = {
    Refused.RATE_LIMITED: "connecting too often",
    Refused.NODE_FULL: "the node was full",
    Refused.NODE_DRAINING: "the node was draining",
    Refused.TRY_AGAIN: "the database did not answer in time",
    Refused.LOGIN_REQUIRED: "not logged in",
    Refused.ACCOUNT_DISABLED: "the account is disabled",
    Refused.REPLACED: "a newer connect of the same device came first",
}

VERDICTS: dict[str, str] = {
    Verdict.ALIVE: "alive",
    Verdict.UNRESPONSIVE: "does not answer",
    Verdict.NODE_LOST: "node lost",
    Verdict.ORPHANED: "unknown to its node",
    Verdict.NEVER_OPENED: "never opened",
    Verdict.STUCK: "handler stuck",
    Verdict.MOVED: "moved to another node",
    Verdict.UNKNOWN: "node has not answered",
}

ACTIONS: dict[str, str] = {
    Action.SPARED: "kept",
    Action.FREED: "freed",
    Action.EVICTED: "evicted",
    Action.CLOSED: "closed",
    Action.UNCONFIRMED: "closing, not confirmed",
    Action.WAITING: "waiting for its node",
    Action.WOULD_FREE: "would be freed",
    Action.WOULD_EVICT: "would be evicted",
    Action.WOULD_CLOSE: "would be closed",
}

STEPS: dict[str, str] = {
    Step.TAKE_STOCK: "Take stock",
    Step.ROLL_CALL: "Ask every client",
    Step.FREE: "Free the dead",
    Step.EVICT: "Evict if still over the limit",
    Step.CONFIRM: "Wait for the nodes",
    Step.VERIFY: "Count again",
    Step.REPORT: "Report",
}

KINDS: dict[str, str] = {"cleanup": "Recovery", "reset": "Full reset", "dry_run": "Check"}

OUTCOMES: dict[str, str] = {
    Outcome.RECOVERED: "recovered",
    Outcome.NOTHING_TO_DO: "nothing to do",
    Outcome.PARTIAL: "partly done",
    Outcome.FAILED: "failed",
}

SUGGESTIONS: dict[str, str] = {
    Suggestion.RECOVER: "Recover this user.",
    Suggestion.RESET: "Reset this user: everything closes, and the clients come back.",
    Suggestion.WAIT: "Wait: this passes by itself.",
    Suggestion.ENABLE_ACCOUNT: "Enable the account.",
    Suggestion.NONE: "",
}


def in_words(code: str, catalogue: dict[str, str]) -> str:
    """Return the words for a code; for an unknown code, the code itself with spaces."""
    return catalogue[code] if code in catalogue else str(code).replace("_", " ")


def result_of(outcome: str, *, dry_run: bool) -> str:
    """Return how a run ended, in words. A dry run changed nothing."""
    if not outcome:
        return "under way"
    if dry_run and outcome == Outcome.RECOVERED:
        return "would recover"
    return in_words(outcome, OUTCOMES)


def count_of(number: int, noun: str) -> str:
    """`1 manager`, `17 managers`, `1,200 managers`."""
    return f"{number:,} {plural(number, noun)}"
