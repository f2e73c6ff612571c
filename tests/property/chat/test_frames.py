"""Any text at all is a frame or a BadFrame."""

import json
from typing import Any

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


def parse(text: str) -> tuple[frames.Frame | None, frames.BadFrame | None]:
    try:
        return frames.parse(text), None
    except frames.BadFrame as bad:
        return None, bad


@given(st.text())
def test_no_text_is_too_strange_to_parse(text: str) -> None:
    with pytest.raises(frames.BadFrame):
        frames.parse(text)


@given(st.dictionaries(NAMES, json_values | st.just(ID)), KINDS)
def test_no_fields_are_too_strange_to_parse(fields: dict[str, Any], kind: str) -> None:
    parsed, bad = parse(json.dumps(fields | {"type": kind}))
    if bad is not None:
        assert bad.code in (ErrorCode.BAD_FIELD, ErrorCode.BAD_JSON)
        assert bad.client_id in (None, ID)
    elif isinstance(parsed, frames.UserMessage):
        parsed.text.encode()
        assert 1 <= len(parsed.text) <= TEXT_CHARACTERS
