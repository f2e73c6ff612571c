"""The catalogue of words, and words that only a newer version has."""

import copy
import json

import pytest

from connections.policy.states import (
    CLOSING_FRAMES,
    DEAD,
    STEPS,
    Action,
    ActorKind,
    CloseReason,
    OpenEnum,
    Outcome,
    ProbeMode,
    Reconnect,
    Refused,
    RunKind,
    Step,
    Verdict,
    closing_frame,
    is_sent,
)

READ_FROM_ROWS = (CloseReason, Refused, ProbeMode, Verdict, Action, RunKind, Outcome, Step, ActorKind)


@pytest.mark.parametrize("words", READ_FROM_ROWS, ids=lambda words: words.__name__)
def test_a_word_of_a_newer_version_is_a_value_of_that_word(words: type[OpenEnum]) -> None:
    word = words("of_a_newer_version")
    assert isinstance(word, words)
    assert word == "of_a_newer_version" == word.value == str(word) == f"{word}"
    assert not word.known
    assert word not in list(words)
    assert dict.fromkeys([str(word)], 1)[word] == 1
    assert json.dumps([word]) == '["of_a_newer_version"]'
    assert copy.deepcopy(word) == word
    assert words("of_a_newer_version") == word
    assert words("of_a_newer_version") not in tuple(words)


@pytest.mark.parametrize("words", READ_FROM_ROWS, ids=lambda words: words.__name__)
def test_a_word_of_this_version_is_its_member(words: type[OpenEnum]) -> None:
    assert all(words(word.value) is word and word.known for word in words)


def test_a_value_that_is_no_word_is_refused() -> None:
    with pytest.raises(ValueError, match="None is not a valid CloseReason"):
        CloseReason(None)  # type: ignore[arg-type]  # as a reader of a column that may be null would


def test_a_word_of_a_newer_version_stands_for_none_of_ours() -> None:
    assert Verdict("asleep") not in DEAD
    assert Step("compensate") not in STEPS
    assert ProbeMode("twice") is not ProbeMode.CLOSE


def test_a_client_is_told_a_reason_of_a_newer_version_and_to_come_back() -> None:
    sent = closing_frame("blocked_by_network")
    assert (sent.code, sent.reconnect, sent.wire_reason) == (4408, Reconnect.AFTER, "")
    assert 0 < sent.delay[0] < sent.delay[1]
    assert is_sent("blocked_by_network")


def test_reasons_of_this_version_are_sent_as_the_catalogue_has_them() -> None:
    assert all(closing_frame(reason) is frame and is_sent(reason) for reason, frame in CLOSING_FRAMES.items())
    assert not any(is_sent(reason) for reason in ("", CloseReason.CLIENT_CLOSED, CloseReason.APP_CLOSED))
