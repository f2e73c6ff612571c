"""The built-in agent: it uses no language model, but plain rules and the same tools on the user's own data."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from datetime import datetime
from typing import Any

from django.utils import timezone

from connections.chat.agents.intents import Intent, ParsedQuestion, parse_question
from connections.chat.agents.phrases import ENDINGS, age
from connections.chat.agents.protocol import Delta, Question, Step, Thought, ToolCall, ToolResult
from connections.policy.wording import count_of, in_short

PACE_SECONDS = 0.02  # between two pieces: an answer that appears all at once reads like an error message
WORDS_PER_PIECE = 4

ABILITIES = """I can:
- show your sessions: "Where am I signed in?"
- say how the last ones ended: "Why was I disconnected?"
- sign out the others: "Sign out the others"
- search what you wrote: "Search for invoice"
- sum up a conversation: "Summary"\
"""
SELF_DESCRIPTION = "I am the assistant built into this server. I follow plain rules and use no language model."


class BuiltinAgent:
    history_limit = 0
    introduction = "Ask the assistant. It follows plain rules, and knows your sessions and what you wrote here."

    def __init__(self, pace_seconds: float = PACE_SECONDS) -> None:
        self._pace = pace_seconds

    async def answer(self, question: Question) -> AsyncGenerator[Step, ToolResult | None]:
        parsed = parse_question(question.text)
        thought, call = _plan(parsed, question.text)
        yield Thought(thought)
        result = yield call
        assert result is not None, "the chat sends a result for each tool call"
        text = _answer_text(parsed, result)
        if question.joined:
            text = f"{count_of(question.joined + 1, 'question')} waited; I answer the last one.\n\n{text}"
        for piece in split_into_pieces(text):
            yield Delta(piece)
            await asyncio.sleep(self._pace)


def _plan(parsed: ParsedQuestion, text: str) -> tuple[str, ToolCall]:
    """Return the sentence that announces the tool call, and the call. Every question calls a tool: the answers consist
    of the user's own data.
    """
    subject = parsed.subject
    match parsed.intent:
        case Intent.SIGN_OUT_OTHERS:
            return "You ask me to sign out your other sessions.", ToolCall("sign_out_others")
        case Intent.SIGN_OUT_HERE:
            return "You want to sign out here. That is yours to do; I look at what else is open.", ToolCall(
                "my_sessions"
            )
        case Intent.SUMMARY if subject:
            return f"I look for a conversation about “{subject}”.", ToolCall(
                "summary_of_conversation", {"title": subject}
            )
        case Intent.SUMMARY:
            return "I read this conversation.", ToolCall("summary_of_conversation")
        case Intent.SEARCH:
            call = ToolCall("search_my_conversations", {"query": subject})
            return f"I search your conversations for “{subject}”.", call
        case Intent.ENDINGS:
            return "I look at how your last sessions ended.", ToolCall("my_recent_endings")
        case Intent.SESSIONS:
            return "You ask about your sessions, so I look at what is open.", ToolCall("my_sessions")
        case Intent.HELP:
            return "I say what I can do, and look at your sessions.", ToolCall("my_sessions")
        case Intent.OTHER:
            call = ToolCall("search_my_conversations", {"query": _keywords(text)})
            return "I have no rule for this, so I look whether you wrote about it before.", call


def _answer_text(parsed: ParsedQuestion, result: ToolResult) -> str:
    if not result.success:
        return str(result.value)
    return _ANSWERS[parsed.intent](result.value, parsed.subject)


def _sessions(found: dict[str, Any], subject: str) -> str:
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


def _help(found: dict[str, Any], subject: str) -> str:
    sessions = count_of(len(found["sessions"]), "session")
    return f"Hello. {SELF_DESCRIPTION} {ABILITIES}\n\nYou have {sessions} open, of {found['limit']}."


def _sign_out_here(found: dict[str, Any], subject: str) -> str:
    others = len(found["sessions"]) - 1
    rest = f" You have {count_of(others, 'other session')} open, which that signs out too if it is the same browser."
    return 'To sign out here, use "Log out" at the top of the page.' + (rest if others > 0 else "")


def _signed_out(found: dict[str, Any], subject: str) -> str:
    number = found["signed_out"]
    if not number:
        return "You have no other session open, so there was nothing to sign out."
    return f"Done: {count_of(number, 'other session')} signed out. This one stays."


def _endings(found: list[dict[str, Any]], subject: str) -> str:
    if not found:
        return "None of your sessions has ended yet."
    now = timezone.now()
    lines = ["Your last sessions ended like this:"]
    for ending in found:
        words = ENDINGS.get(ending["reason"], ending["reason"].replace("_", " "))
        lines.append(f"- {age(ending['closed_at'], now)} ago, {in_short(ending['user_agent'])}: {words}")
    return "\n".join(lines)


def _found(found: list[dict[str, Any]], subject: str) -> str:
    if not found:
        return f"I found nothing about “{subject}” in what you wrote."
    return f"{count_of(len(found), 'message')} about “{subject}”, the latest first:\n{_excerpts(found)}"


def _other(found: list[dict[str, Any]], subject: str) -> str:
    answer = f"I have no answer to that. {SELF_DESCRIPTION} Your message is stored. {ABILITIES}"
    return f"{answer}\n\nYou wrote about this before:\n{_excerpts(found)}" if found else answer


def _excerpts(found: list[dict[str, Any]]) -> str:
    return "\n".join(f"- {_day(passage['at'])}, in “{passage['title']}”: {passage['excerpt']}" for passage in found)


def _summary(found: dict[str, Any], subject: str) -> str:
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
    """The three longest words: the most useful ones for a search that ignores grammar."""
    words = {word.strip(".,;:!?\"'()[]").lower(): None for word in text.split()}
    return " ".join(sorted(words, key=len, reverse=True)[:3]) or text[:50]


def split_into_pieces(text: str) -> Iterator[str]:
    """Split a text into pieces of a few words. Joined, the pieces are the text."""
    start, words = 0, 0
    for position, character in enumerate(text):
        if character in " \n" and (words := words + 1) >= WORDS_PER_PIECE:
            yield text[start : position + 1]
            start, words = position + 1, 0
    if start < len(text):
        yield text[start:]
