"""Frames of clients are parsed or refused in words; frames of ours are one line of JSON."""

import json
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from connections.chat import frames
from connections.chat.limits import TEXT_CHARACTERS

ID = "5b1e8c52-3c3e-4a0e-9a31-0d8c4d1f2a3b"


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
