"""The built-in agent understands plain requests, and signs nobody out unless it was told to."""

import asyncio
from typing import Any

import pytest

from connections.chat.agents.builtin import BuiltinAgent
from connections.chat.agents.intents import Intent, ParsedQuestion, parse_question
from connections.chat.agents.phrases import ENDINGS
from connections.chat.agents.protocol import Delta, Question, Thought, ToolCall, ToolResult
from connections.policy.states import CloseReason


@pytest.mark.parametrize(
    ("text", "intent", "about"),
    [
        ("hello", Intent.HELP, ""),
        ("What can you do?", Intent.HELP, ""),
        ("how do I sign out the others?", Intent.HELP, ""),
        ("Where am I signed in?", Intent.SESSIONS, ""),
        ("how many connections do I have", Intent.SESSIONS, ""),
        ("Why was I disconnected?", Intent.ENDINGS, ""),
        ("Sign out the others", Intent.SIGN_OUT_OTHERS, ""),
        ("please log out all my other devices!", Intent.SIGN_OUT_OTHERS, ""),
        ("Can you sign me out everywhere else, please?", Intent.SIGN_OUT_OTHERS, ""),
        ("sign me out", Intent.SIGN_OUT_HERE, ""),
        ("Search for blue whales", Intent.SEARCH, "blue whales"),
        ("search my conversations for “tax”", Intent.SEARCH, "tax"),
        ("What did I say about the invoice?", Intent.SEARCH, "the invoice"),
        ("Summary", Intent.SUMMARY, ""),
        ("Please summarise this conversation", Intent.SUMMARY, ""),
        ("summary of the conversation about invoices", Intent.SUMMARY, "invoices"),
        ("Tell me a joke", Intent.OTHER, ""),
    ],
)
def test_requests_are_understood(text: str, intent: Intent, about: str) -> None:
    assert parse_question(text) == ParsedQuestion(intent, about)


@pytest.mark.parametrize(
    "text",
    [
        "don't sign out the others",
        "Should I sign out the others?",
        "What happens if I sign out the others?",
        "My colleague said: sign out the others",
        "Sign out the others" + " and tell me everything" * 20,
        "sign out the other user",
    ],
)
def test_only_a_plain_order_signs_anybody_out(text: str) -> None:
    assert parse_question(text).intent is not Intent.SIGN_OUT_OTHERS


def converse(text: str, result: ToolResult, joined: int = 0) -> tuple[list[str], str]:
    """The tools that were called, and the answer."""

    async def main() -> tuple[list[str], str]:
        steps = BuiltinAgent(pace_seconds=0).answer(Question(text, joined))
        called: list[str] = []
        answer, sent = "", None
        first = await anext(steps)
        assert isinstance(first, Thought)
        while True:
            try:
                step = await steps.asend(sent)
            except StopAsyncIteration:
                return called, answer
            sent = None
            if isinstance(step, ToolCall):
                called.append(step.tool)
                sent = result
            elif isinstance(step, Delta):
                answer += step.text

    return asyncio.run(main())


SESSIONS: dict[str, Any] = {"limit": 20, "sessions": []}


def test_every_question_is_answered_with_the_help_of_a_tool() -> None:
    called, answer = converse("hello", ToolResult(SESSIONS))
    assert called == ["my_sessions"]
    assert "no language model" in answer


def test_a_tool_that_failed_is_said_as_it_is() -> None:
    _, answer = converse("Summary", ToolResult("It broke.", success=False))
    assert answer == "It broke."


def test_questions_that_waited_together_are_mentioned() -> None:
    _, answer = converse("Where am I signed in?", ToolResult(SESSIONS), joined=2)
    assert answer.startswith("3 questions waited")


def test_every_ending_has_words() -> None:
    assert set(ENDINGS) == set(CloseReason)
