"""The frames of `/ws/chat/`: parse those of the client, build those of the server. Pure."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Never
from uuid import UUID

from connections.chat.limits import SESSIONS_AT_ONCE, TEXT_CHARACTERS
from connections.chat.states import ErrorCode

MAX_SEQ = 2**63 - 1  # what the column holds


class BadFrame(Exception):
    """The frame can't be handled. `client_id` is the frame's, if it has a valid one."""

    def __init__(self, code: ErrorCode, message: str, client_id: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.client_id = client_id


@dataclass(frozen=True, slots=True)
class UserMessage:
    client_id: UUID
    conversation: UUID | None
    text: str
    sent_client_id: str  # as the client wrote it, for the ack


@dataclass(frozen=True, slots=True)
class Resume:
    conversation: UUID
    after_seq: int


@dataclass(frozen=True, slots=True)
class Earlier:
    """Ask for the messages just before `before_seq`, to scroll back."""

    conversation: UUID
    before_seq: int


@dataclass(frozen=True, slots=True)
class ListSessions:
    pass


@dataclass(frozen=True, slots=True)
class ListConversations:
    before: UUID | None  # the last one that the client has; None: begin with the latest


@dataclass(frozen=True, slots=True)
class CloseSessions:
    managers: tuple[UUID, ...] | None  # None: all others


@dataclass(frozen=True, slots=True)
class CancelTurn:
    run: UUID


@dataclass(frozen=True, slots=True)
class StrayPong:
    """A pong without a nonce of the engine's pings, so the engine passed it on. Needs no answer."""


Frame = UserMessage | Resume | Earlier | ListSessions | ListConversations | CloseSessions | CancelTurn | StrayPong


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")


def parse(text: str) -> Frame:
    """Parse one text frame. Raises BadFrame and no other error, whatever the text is."""
    try:
        fields = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise BadFrame(ErrorCode.BAD_JSON, "This frame is nested too deeply.") from None
    except ValueError:
        raise BadFrame(ErrorCode.BAD_JSON, "This frame is not valid JSON.") from None
    if not isinstance(fields, dict):
        raise BadFrame(ErrorCode.BAD_FRAME, "A frame is a JSON object.")
    kind = fields.get("type")
    if not isinstance(kind, str):
        raise BadFrame(ErrorCode.BAD_FRAME, "A frame has a type, which is a string.", _client_id_to_echo(fields))
    reader = _READERS.get(kind)
    if reader is None:
        raise BadFrame(ErrorCode.UNKNOWN_TYPE, "No frame has this type.", _client_id_to_echo(fields))
    return reader(fields)


def _client_id_to_echo(fields: dict[str, Any]) -> str | None:
    """The client id for the answer, or None: only a valid one is sent back."""
    sent = fields.get("client_id")
    return sent if isinstance(sent, str) and _uuid(sent) is not None else None


def _uuid(value: object) -> UUID | None:
    if not isinstance(value, str) or len(value) != 36:
        return None
    try:
        return UUID(value)
    except ValueError:
        return None


def _bad(fields: dict[str, Any], message: str) -> BadFrame:
    return BadFrame(ErrorCode.BAD_FIELD, message, _client_id_to_echo(fields))


def _user_message(fields: dict[str, Any]) -> UserMessage:
    client_id = _uuid(fields.get("client_id"))
    if client_id is None:
        raise _bad(fields, "client_id must be a UUID.")
    if "conversation" not in fields:
        raise _bad(fields, "conversation is missing; null begins a new one.")
    conversation = _uuid(fields["conversation"])
    if conversation is None and fields["conversation"] is not None:
        raise _bad(fields, "conversation must be a UUID, or null for a new one.")
    text = fields.get("text")
    if not isinstance(text, str):
        raise _bad(fields, "text must be a string.")
    if not 1 <= len(text) <= TEXT_CHARACTERS:
        raise _bad(fields, f"text must have 1 to {TEXT_CHARACTERS} characters; this one has {len(text)}.")
    if "\0" in text:
        raise _bad(fields, "text must not hold the character NUL, which can't be stored.")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise _bad(fields, "text must not hold half of a surrogate pair, which can't be stored.")
    return UserMessage(client_id, conversation, text, fields["client_id"])


def _resume(fields: dict[str, Any]) -> Resume:
    return Resume(_conversation(fields), _seq(fields, "after_seq"))


def _earlier(fields: dict[str, Any]) -> Earlier:
    return Earlier(_conversation(fields), _seq(fields, "before_seq"))


def _conversation(fields: dict[str, Any]) -> UUID:
    conversation = _uuid(fields.get("conversation"))
    if conversation is None:
        raise _bad(fields, "conversation must be a UUID.")
    return conversation


def _seq(fields: dict[str, Any], name: str) -> int:
    seq = fields.get(name)
    if not isinstance(seq, int) or isinstance(seq, bool) or not 0 <= seq <= MAX_SEQ:
        raise _bad(fields, f"{name} must be a whole number, 0 or more.")
    return seq


def _list_conversations(fields: dict[str, Any]) -> ListConversations:
    before = _uuid(fields.get("before"))
    if before is None and fields.get("before") is not None:
        raise _bad(fields, "before must be a UUID, or left out.")
    return ListConversations(before)


def _close_sessions(fields: dict[str, Any]) -> CloseSessions:
    given = fields.get("managers")
    if given == "others":
        return CloseSessions(None)
    if not isinstance(given, list) or not 1 <= len(given) <= SESSIONS_AT_ONCE:
        raise _bad(fields, f'managers must be "others", or a list of 1 to {SESSIONS_AT_ONCE} ids.')
    managers = [_uuid(item) for item in given]
    known = tuple(manager for manager in managers if manager is not None)
    if len(known) != len(managers):
        raise _bad(fields, "Each of managers must be a UUID.")
    return CloseSessions(known)


def _cancel_turn(fields: dict[str, Any]) -> CancelTurn:
    run = _uuid(fields.get("run"))
    if run is None:
        raise _bad(fields, "run must be a UUID.")
    return CancelTurn(run)


_READERS: dict[str, Callable[[dict[str, Any]], Frame]] = {
    "user_message": _user_message,
    "resume": _resume,
    "earlier": _earlier,
    "list_sessions": lambda fields: ListSessions(),
    "list_conversations": _list_conversations,
    "close_sessions": _close_sessions,
    "cancel_turn": _cancel_turn,
    "pong": lambda fields: StrayPong(),
}


def error_fields(frame: Frame) -> dict[str, Any]:
    """The fields of an error frame that tell the client which of its frames failed."""
    match frame:
        case UserMessage():
            return {"client_id": frame.sent_client_id, "conversation": frame.conversation}
        case Resume() | Earlier():
            return {"conversation": frame.conversation}
    return {}


def frame(kind: str, **fields: Any) -> str:
    """A frame of the server as text. UUIDs become strings, times ISO 8601; fields that are None are left out."""
    filled = {name: value for name, value in fields.items() if value is not None}
    return json.dumps({"type": kind, **filled}, default=_as_json, ensure_ascii=False, separators=(",", ":"))


def _as_json(value: object) -> str:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a frame")


def error(code: ErrorCode, message: str, client_id: str | None = None, conversation: UUID | None = None) -> str:
    return frame("error", code=code.value, message=message, client_id=client_id, conversation=conversation)
