"""Every reason, verdict and cause has words for staff."""

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
def test_every_code_has_words(codes: type[StrEnum], words: dict[str, str]) -> None:
    assert set(words) == set(codes)
    assert not [text for text in words.values() if "_" in text]


def test_counts() -> None:
    assert [wording.count_of(n, "manager") for n in (0, 1, 1200)] == ["0 managers", "1 manager", "1,200 managers"]
