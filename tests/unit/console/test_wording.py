"""Every code of the catalogue has words that support can read out."""

from enum import StrEnum

import pytest

from connections.policy.states import Action, CloseReason, Outcome, Refused, Step, Suggestion, Verdict
from console import wording


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        (CloseReason, wording.REASONS),
        (Refused, wording.REFUSALS),
        (Verdict, wording.VERDICTS),
        (Action, wording.ACTIONS),
        (Outcome, wording.OUTCOMES),
        (Step, wording.STEPS),
        (Suggestion, wording.SUGGESTIONS),
    ],
)
def test_none_is_missing(codes: type[StrEnum], words: dict[str, str]) -> None:
    assert set(words) == set(codes)
    assert not [text for text in words.values() if "_" in text]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0.9, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (7200, "2 h"), (90000, "1 d")],
)
def test_durations(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


def test_counts() -> None:
    assert [wording.count_of(n, "manager") for n in (0, 1, 1200)] == ["0 managers", "1 manager", "1,200 managers"]
