"""Any text at all is a frame or a BadFrame; frames of ours are one line of JSON."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connections.chat import frames
from connections.chat.limits import TEXT_CHARACTERS
from connections.chat.states import ErrorCode

ID = "5b1e8c52-3c3e-4a0e-9a31-0d8c4d1f2a3b"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
NAMES = st.sampled_from(
    ["type", "client_id", "conversation", "text", "after_seq", "before_seq", "before", "managers", "run", "nonce"]
)
KINDS = st.sampled_from(
    [
        "user_message",
        "resume",
        "earlier",
        "list_sessions",
        "list_conversations",
        "close_sessions",
        "cancel_turn",
        "pong",
    ]
)


@given(st.text())
def test_no_text_is_too_strange_to_parse(text: str) -> None:
    with pytest.raises(frames.BadFrame):
        frames.parse(text)


@given(st.dictionaries(NAMES, json_values | st.just(ID)), KINDS)
def test_no_fields_are_too_strange_to_parse(fields: dict[str, Any], kind: str) -> None:
    parsed, bad = attempt(json.dumps(fields | {"type": kind}))
    if bad is not None:
        assert bad.code in (ErrorCode.BAD_FIELD, ErrorCode.BAD_JSON)
        assert bad.client_id in (None, ID)
    elif isinstance(parsed, frames.UserMessage):
        parsed.text.encode()
        assert 1 <= len(parsed.text) <= TEXT_CHARACTERS


def attempt(text: str) -> tuple[frames.Frame | None, frames.BadFrame | None]:
    try:
        return frames.parse(text), None
    except frames.BadFrame as bad:
        return None, bad


def test_a_message_keeps_its_text_and_the_clients_spelling_of_its_id() -> None:
    sent = {"type": "user_message", "client_id": ID.upper(), "conversation": None, "text": "  as it is \n"}
    assert frames.parse(json.dumps(sent)) == frames.UserMessage(UUID(ID), None, "  as it is \n", ID.upper())


@pytest.mark.parametrize("text", ["\ud83d\ude00" * 1, "😀" * TEXT_CHARACTERS])
def test_characters_are_counted_and_not_bytes(text: str) -> None:
    sent = json.dumps({"type": "user_message", "client_id": ID, "conversation": ID, "text": text})
    parsed = frames.parse(sent)
    assert isinstance(parsed, frames.UserMessage)
    assert set(parsed.text) == {"😀"}


def test_our_frames_are_json_without_empty_fields() -> None:
    at, key = datetime(2026, 1, 2, tzinfo=UTC), uuid4()
    made = json.loads(frames.frame("message", conversation=key, created_at=at, client_id=None, success=False))
    assert made == {
        "type": "message",
        "conversation": str(key),
        "created_at": "2026-01-02T00:00:00+00:00",
        "success": False,
    }
