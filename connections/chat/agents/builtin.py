"""The agent that comes with the product: no language model, plain rules, and real tools on the user's own data."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from datetime import datetime
from typing import Any

from django.utils import timezone

from connections.chat.agents.intents import Intent, understand
from connections.chat.agents.phrases import ENDINGS, age
from connections.chat.agents.protocol import Delta, Question, Step, Thought, ToolCall, ToolResult
from connections.policy.wording import count_of, in_short

PACE_SECONDS = 0.02  # between pieces: an answer that appears at once reads like an error message
PIECE_WORDS = 4

CAN_DO = """I can:
- show your sessions: "Where am I signed in?"
- say how the last ones ended: "Why was I disconnected?"
- sign out the others: "Sign out the others"
- search what you wrote: "Search for invoice"
- sum up a conversation: "Summary"\
"""
WHO = "I am the assistant built into this server. I follow plain rules and use no language model."


class BuiltinAgent:
    remembers = 0
    introduction = "Ask the assistant. It follows plain rules, and knows your sessions and what you wrote here."

    def __init__(self, pace_seconds: float = PACE_SECONDS) -> None:
        self._pace = pace_seconds

    async def answer(self, question: Question) -> AsyncGenerator[Step, ToolResult | None]:
        understood = understand(question.text)
        thought, call = _plan(understood.intent, understood.about, question.text)
        yield Thought(thought)
        result = yield call
        assert result is not None, "a tool call is answered with its result"
        text = _say(understood.intent, result, understood.about)
        if question.joined:
            text = f"{count_of(question.joined + 1, 'question')} waited; I answer the last one.\n\n{text}"
        for piece in pieces(text):
            yield Delta(piece)
            await asyncio.sleep(self._pace)


def _plan(intent: Intent, about: str, text: str) -> tuple[str, ToolCall]:
    """What it is about to do, in a sentence and as a call.

    Every question gets a look at the user's data: without one its words would be empty, and it has no others.
    """
    match intent:
        case Intent.SIGN_OUT_OTHERS:
            return "You ask me to sign out your other sessions.", ToolCall("sign_out_others")
        case Intent.SIGN_OUT_HERE:
            return "You want to sign out here. That is yours to do; I look at what else is open.", ToolCall(
                "my_sessions"
            )
        case Intent.SUMMARY if about:
            return f"I look for a conversation about “{about}”.", ToolCall("summary_of_conversation", {"title": about})
        case Intent.SUMMARY:
            return "I read this conversation.", ToolCall("summary_of_conversation")
        case Intent.SEARCH:
            call = ToolCall("search_my_conversations", {"query": about})
            return f"I search your conversations for “{about}”.", call
        case Intent.ENDINGS:
            return "I look at how your last sessions ended.", ToolCall("my_recent_endings")
        case Intent.SESSIONS:
            return "You ask about your sessions, so I look at what is open.", ToolCall("my_sessions")
        case Intent.HELP:
            return "I say what I can do, and look at your sessions.", ToolCall("my_sessions")
        case Intent.OTHER:
            call = ToolCall("search_my_conversations", {"query": _keywords(text)})
            return "I have no rule for this, so I look whether you wrote about it before.", call


def _say(intent: Intent, result: ToolResult, about: str) -> str:
    if not result.success:
        return str(result.value)
    return _ANSWERS[intent](result.value, about)


def _sessions(found: dict[str, Any], about: str) -> str:
    now = timezone.now()
    sessions = found["sessions"]
    if not sessions:
        return "You have no session open any more; this answer waits for you to come back."
    lines = [f"{count_of(len(sessions), 'session')} open, of {found['limit']}:"]
    for session in sessions:
        where = in_short(session["user_agent"])
        address = f" from {session['ip']}" if session["ip"] else ""
        mark = " (this one)" if session["current"] else ""
        lines.append(
            f"- {where}{address}, open for {age(session['opened_at'], now)}, "
            f"last active {age(session['last_active_at'], now)} ago{mark}"
        )
    if len(sessions) > 1:
        lines.append('\nSay "Sign out the others" to keep only this one.')
    return "\n".join(lines)


def _help(found: dict[str, Any], about: str) -> str:
    return f"Hello. {WHO} {CAN_DO}\n\nYou have {count_of(len(found['sessions']), 'session')} open, of {found['limit']}."


def _sign_out_here(found: dict[str, Any], about: str) -> str:
    others = len(found["sessions"]) - 1
    rest = f" You have {count_of(others, 'other session')} open, which that signs out too if it is the same browser."
    return 'To sign out here, use "Log out" at the top of the page.' + (rest if others > 0 else "")


def _signed_out(found: dict[str, Any], about: str) -> str:
    number = found["signed_out"]
    if not number:
        return "You have no other session open, so there was nothing to sign out."
    return f"Done: {count_of(number, 'other session')} signed out. This one stays."


def _endings(found: list[dict[str, Any]], about: str) -> str:
    if not found:
        return "None of your sessions has ended yet."
    now = timezone.now()
    lines = ["Your last sessions ended like this:"]
    for ending in found:
        words = ENDINGS.get(ending["reason"], ending["reason"].replace("_", " "))
        lines.append(f"- {age(ending['closed_at'], now)} ago, {in_short(ending['user_agent'])}: {words}")
    return "\n".join(lines)


def _found(found: list[dict[str, Any]], about: str) -> str:
    if not found:
        return f"I found nothing about “{about}” in what you wrote."
    return f"{count_of(len(found), 'message')} about “{about}”, the latest first:\n{_excerpts(found)}"


def _other(found: list[dict[str, Any]], about: str) -> str:
    answer = f"I have no answer to that. {WHO} Your message is stored. {CAN_DO}"
    return f"{answer}\n\nYou wrote about this before:\n{_excerpts(found)}" if found else answer


def _excerpts(found: list[dict[str, Any]]) -> str:
    return "\n".join(f"- {_day(passage['at'])}, in “{passage['title']}”: {passage['excerpt']}" for passage in found)


def _summary(found: dict[str, Any], about: str) -> str:
    yours, mine = count_of(found["questions"], "message"), count_of(found["answers"], "answer")
    lines = [f"“{found['title']}” began on {_day(found['began'])}.", f"It has {yours} of yours and {mine} of mine."]
    if found["asked"]:
        lines += ["You wrote:", *(f"- {text}" for text in found["asked"])]
    return "\n".join(lines)


_ANSWERS: dict[Intent, Callable[[Any, str], str]] = {
    Intent.HELP: _help,
    Intent.SESSIONS: _sessions,
    Intent.ENDINGS: _endings,
    Intent.SIGN_OUT_OTHERS: _signed_out,
    Intent.SIGN_OUT_HERE: _sign_out_here,
    Intent.SEARCH: _found,
    Intent.SUMMARY: _summary,
    Intent.OTHER: _other,
}


def _day(iso: str) -> str:
    return f"{datetime.fromisoformat(iso):%-d %B}"


def _keywords(text: str) -> str:
    """The three longest words, which say most in a search without grammar."""
    words = {word.strip(".,;:!?\"'()[]").lower(): None for word in text.split()}
    return " ".join(sorted(words, key=len, reverse=True)[:3]) or text[:50]


def pieces(text: str) -> Iterator[str]:
    """The text in pieces of a few words, nothing left out."""
    start, words = 0, 0
    for position, character in enumerate(text):
        if character in " \n" and (words := words + 1) >= PIECE_WORDS:
            yield text[start : position + 1]
            start, words = position + 1, 0
    if start < len(text):
        yield text[start:]
