"""The chat's enumerations: roles, turn states, error codes. Pure."""

from enum import StrEnum


class Role(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"


class TurnState(StrEnum):
    """A turn is queued when its question is stored, runs on one node at a time, and ends once."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED = (TurnState.QUEUED, TurnState.RUNNING)
FINISHED = (TurnState.COMPLETED, TurnState.FAILED, TurnState.CANCELLED)


class ErrorCode(StrEnum):
    """The code of an `error` frame. After `try_again` the client may send the same frame again; after any other it
    would fail in the same way.
    """

    BAD_JSON = "bad_json"
    BINARY = "binary"
    BAD_FRAME = "bad_frame"
    UNKNOWN_TYPE = "unknown_type"
    BAD_FIELD = "bad_field"
    NOT_FOUND = "not_found"
    TOO_MANY_CONVERSATIONS = "too_many_conversations"
    TRY_AGAIN = "try_again"
    INTERNAL = "internal"
