"""The built-in agent takes any text, and its pieces leave nothing out."""

from hypothesis import given
from hypothesis import strategies as st

from connections.chat.agents.builtin import split_into_pieces
from connections.chat.agents.intents import parse_question


@given(st.text(max_size=500))
def test_any_text_is_understood_somehow(text: str) -> None:
    parse_question(text)


@given(st.text())
def test_pieces_leave_nothing_out(text: str) -> None:
    assert "".join(split_into_pieces(text)) == text
