"""The chat's words: roles, states of a turn, error codes. Pure."""

from enum import StrEnum


class Role(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"


class TurnState(StrEnum):
    """A turn is queued with its question, runs on one node at a time, and ends once."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED = (TurnState.QUEUED, TurnState.RUNNING)
FINISHED = (TurnState.COMPLETED, TurnState.FAILED, TurnState.CANCELLED)


class ErrorCode(StrEnum):
    """What an `error` frame says. After `try_again` the same frame may be sent again; after the others it would
    fail in the same way."""

    BAD_JSON = "bad_json"
    BINARY = "binary"
    BAD_FRAME = "bad_frame"
    UNKNOWN_TYPE = "unknown_type"
    BAD_FIELD = "bad_field"
    NOT_FOUND = "not_found"
    TOO_MANY_CONVERSATIONS = "too_many_conversations"
    TRY_AGAIN = "try_again"
    INTERNAL = "internal"
