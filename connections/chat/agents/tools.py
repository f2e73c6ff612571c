"""The tools that an agent may use. Each works only on the data of the user who asked. Synchronous."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from connections import database
from connections.chat import sessions
from connections.chat.agents.protocol import ToolResult
from connections.chat.frames import MAX_SEQ
from connections.chat.limits import TOOL_SECONDS
from connections.chat.models import AgentTurn, Conversation, Message
from connections.chat.states import Role
from connections.recovery.actions import Obsolete

MAX_PASSAGES = 5  # messages in the result of a search
EXCERPT_CHARACTERS = 160  # of each message
QUERY_CHARACTERS = 200


class ToolFailed(Exception):
    """The tool failed; the message is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """The user, conversation and turn for which a tool runs. `manager` is the socket that asked; None if it is unknown
    or closed. `turn` is the run and the attempt.
    """

    user_id: Any
    conversation: UUID
    manager: UUID | None
    question_seq: int = MAX_SEQ
    turn: tuple[UUID, int] | None = None

    def lock_wanted_turn(self) -> bool:
        """Lock the turn for the transaction. Returns False if another attempt has it, or its user has cancelled it."""
        if self.turn is None:
            return True
        run, attempt = self.turn
        turn = AgentTurn.objects.running().filter(id=run, attempt=attempt, cancel_wanted_at=None)
        return turn.select_for_update(no_key=True).first() is not None


@dataclass(frozen=True, slots=True)
class Tool:
    """`parameters` is the JSON schema of its arguments. `changes`: it changes something, so it does more than read."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: Callable[..., Any]
    changes: bool = False


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def my_sessions(context: ToolContext) -> dict[str, Any]:
    return {
        "sessions": sessions.open_sessions(context.user_id, context.manager),
        "limit": sessions.soft_limit(context.user_id),
    }


def my_recent_endings(context: ToolContext) -> list[dict[str, Any]]:
    return sessions.recent_endings(context.user_id)


def sign_out_others(context: ToolContext) -> dict[str, Any]:
    if context.manager is None:
        raise ToolFailed("I can no longer tell which of your sessions asked, so I signed out none.")
    try:
        return {"signed_out": len(sessions.close(context.user_id, None, context.manager, context.lock_wanted_turn))}
    except Obsolete as reason:
        raise ToolFailed(str(reason)) from reason


def search_my_conversations(context: ToolContext, query: str) -> list[dict[str, Any]]:
    """The user's messages that have all words of the query, newest first, without the question and later messages."""
    words = query[:QUERY_CHARACTERS].split()
    if not words:
        raise ToolFailed("Tell me what to search for.")
    rows = messages_sent_by(context.user_id)
    rows = rows.exclude(conversation_id=context.conversation, seq__gte=context.question_seq)
    for word in words:
        rows = rows.filter(text__icontains=word)
    return [
        {
            "conversation": str(row.conversation_id),
            "title": row.conversation.title,
            "seq": row.seq,
            "at": row.created_at.isoformat(),
            "excerpt": excerpt(row.text, words[0]),
        }
        for row in rows.select_related("conversation").order_by("-pk")[:MAX_PASSAGES]
    ]


def messages_sent_by(user_id: Any) -> QuerySet[Message]:
    """All messages that a user has sent. The two conditions match the index on sender and client id, so a search reads
    no other user's rows.
    """
    return Message.objects.filter(sender_id=user_id, client_id__isnull=False)


def summary_of_conversation(context: ToolContext, title: str = "") -> dict[str, Any]:
    """Counts and excerpts of this conversation, or of the latest one whose title contains `title`."""
    mine = Conversation.objects.filter(user_id=context.user_id)
    wanted = mine.filter(title__icontains=title) if title else mine.filter(id=context.conversation)
    found = wanted.order_by("-updated_at").first()
    if found is None:
        raise ToolFailed(f"You have no conversation whose title holds “{title}”.")
    rows = Message.objects.filter(conversation=found)
    if found.id == context.conversation:
        rows = rows.filter(seq__lt=context.question_seq)
    asked = rows.filter(role=Role.USER.value)
    return {
        "title": found.title,
        "began": found.created_at.isoformat(),
        "questions": asked.count(),
        "answers": rows.filter(role=Role.ASSISTANT.value).count(),
        "asked": [excerpt(text, "") for text in asked.order_by("-seq").values_list("text", flat=True)[:10]][::-1],
    }


def excerpt(text: str, around: str) -> str:
    """At most EXCERPT_CHARACTERS characters on one line, with `around` inside."""
    line = " ".join(text.split())
    if len(line) <= EXCERPT_CHARACTERS:
        return line
    start = max(0, line.lower().find(around.lower()) - EXCERPT_CHARACTERS // 3)
    cut = line[start : start + EXCERPT_CHARACTERS]
    return f"{'…' if start else ''}{cut}{'…' if start + EXCERPT_CHARACTERS < len(line) else ''}"


TOOLS: dict[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool("my_sessions", "The user's open sessions: where and since when.", _object(), my_sessions),
        Tool("my_recent_endings", "How the user's last sessions ended.", _object(), my_recent_endings),
        Tool(
            "sign_out_others",
            "Sign out all other sessions. Only if asked to.",
            _object(),
            sign_out_others,
            changes=True,
        ),
        Tool(
            "search_my_conversations",
            "Search what the user has written, in all conversations.",
            _object(query={"type": "string"}) | {"required": ["query"]},
            search_my_conversations,
        ),
        Tool(
            "summary_of_conversation",
            "What was asked in this conversation, or in the one with that title.",
            _object(title={"type": "string"}),
            summary_of_conversation,
        ),
    )
}


@contextmanager
def _statement_timeout() -> Iterator[None]:
    """Limit each statement's time, so that none runs on after its caller gave up. SQLite has no such limit."""
    if database.current().vendor != "postgresql":
        yield
        return
    with database.current().cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        (default,) = cursor.fetchone()
        cursor.execute("SELECT set_config('statement_timeout', %s, false)", [f"{TOOL_SECONDS:g}s"])
        try:
            yield
        finally:
            cursor.execute("SELECT set_config('statement_timeout', %s, false)", [default])


def run_tool(context: ToolContext, name: str, parameters: Mapping[str, Any]) -> ToolResult:
    """Run a tool. An unknown name, wrong parameters and ToolFailed make an unsuccessful result."""
    tool = TOOLS.get(name)
    if tool is None:
        return ToolResult(f"There is no tool named {name}.", success=False)
    known = tool.parameters["properties"]
    wrong = [key for key, value in parameters.items() if key not in known or not isinstance(value, str)]
    missing = [key for key in tool.parameters.get("required", ()) if key not in parameters]
    if wrong or missing:
        return ToolResult(f"{name} does not take {json.dumps(sorted(wrong + missing))}.", success=False)
    try:
        with _statement_timeout():
            return ToolResult(tool.run(context, **parameters))
    except ToolFailed as error:
        return ToolResult(str(error), success=False)
