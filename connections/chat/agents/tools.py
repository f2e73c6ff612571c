"""The tools: what an agent may do, each on the asking user's own data and nothing else. Synchronous."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet

from connections.chat import sessions
from connections.chat.agents.protocol import ToolResult
from connections.chat.frames import MAX_SEQ
from connections.chat.limits import TOOL_SECONDS
from connections.chat.models import AgentTurn, Conversation, Message
from connections.chat.states import Role
from connections.recovery.actions import Obsolete

FOUND = 5  # passages a search shows
EXCERPT = 160  # characters of each
QUERY_CHARACTERS = 200


class ToolFailed(Exception):
    """The tool failed; the message is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class Asker:
    """On whose behalf a tool runs. `manager` is the socket that asked; None if it is unknown by now. `turn` is the run
    and the attempt in which it is used.
    """

    user_id: Any
    conversation: UUID
    manager: UUID | None
    question_seq: int = MAX_SEQ
    turn: tuple[UUID, int] | None = None

    def still_asks(self) -> bool:
        """Whether the turn is still this attempt's, and its user still wants it; to the end of the transaction."""
        if self.turn is None:
            return True
        run, attempt = self.turn
        turn = AgentTurn.objects.running().filter(id=run, attempt=attempt, cancel_wanted_at=None)
        return turn.select_for_update(no_key=True).first() is not None


@dataclass(frozen=True, slots=True)
class Tool:
    """`parameters` is a JSON schema of its arguments; `changes` says that it does more than look."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: Callable[..., Any]
    changes: bool = False


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def my_sessions(asker: Asker) -> dict[str, Any]:
    return {
        "sessions": sessions.open_sessions(asker.user_id, asker.manager),
        "limit": sessions.soft_limit(asker.user_id),
    }


def my_recent_endings(asker: Asker) -> list[dict[str, Any]]:
    return sessions.recent_endings(asker.user_id)


def sign_out_others(asker: Asker) -> dict[str, Any]:
    if asker.manager is None:
        raise ToolFailed("I can no longer tell which of your sessions asked, so I signed out none.")
    try:
        return {"signed_out": len(sessions.close(asker.user_id, None, asker.manager, asker.still_asks))}
    except Obsolete as reason:
        raise ToolFailed(str(reason)) from reason


def search_my_conversations(asker: Asker, query: str) -> list[dict[str, Any]]:
    """Passages that hold all the words of the query, newest first, the question itself left out."""
    words = query[:QUERY_CHARACTERS].split()
    if not words:
        raise ToolFailed("Tell me what to search for.")
    rows = written_by(asker.user_id)
    rows = rows.exclude(conversation_id=asker.conversation, seq__gte=asker.question_seq)
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
        for row in rows.select_related("conversation").order_by("-pk")[:FOUND]
    ]


def written_by(user_id: Any) -> QuerySet[Message]:
    """What a user has sent, by the index of every sender's client ids: not all there is, to be sieved afterwards."""
    return Message.objects.filter(sender_id=user_id, client_id__isnull=False)


def summary_of_conversation(asker: Asker, title: str = "") -> dict[str, Any]:
    """What was said in this conversation, or in the latest whose title holds `title`: numbers and first lines."""
    mine = Conversation.objects.filter(user_id=asker.user_id)
    wanted = mine.filter(title__icontains=title) if title else mine.filter(id=asker.conversation)
    found = wanted.order_by("-updated_at").first()
    if found is None:
        raise ToolFailed(f"You have no conversation whose title holds “{title}”.")
    rows = Message.objects.filter(conversation=found)
    if found.id == asker.conversation:
        rows = rows.filter(seq__lt=asker.question_seq)
    asked = rows.filter(role=Role.USER.value)
    return {
        "title": found.title,
        "began": found.created_at.isoformat(),
        "questions": asked.count(),
        "answers": rows.filter(role=Role.ASSISTANT.value).count(),
        "asked": [excerpt(text, "") for text in asked.order_by("-seq").values_list("text", flat=True)[:10]][::-1],
    }


def excerpt(text: str, around: str) -> str:
    """At most EXCERPT characters on one line, with `around` inside."""
    line = " ".join(text.split())
    if len(line) <= EXCERPT:
        return line
    start = max(0, line.lower().find(around.lower()) - EXCERPT // 3)
    cut = line[start : start + EXCERPT]
    return f"{'…' if start else ''}{cut}{'…' if start + EXCERPT < len(line) else ''}"


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
def _bounded() -> Iterator[None]:
    """Bound each statement, so that none runs long after its caller gave up. SQLite has no such bound."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        (usual,) = cursor.fetchone()
        cursor.execute("SELECT set_config('statement_timeout', %s, false)", [f"{TOOL_SECONDS:g}s"])
        try:
            yield
        finally:
            cursor.execute("SELECT set_config('statement_timeout', %s, false)", [usual])


def use(asker: Asker, name: str, parameters: Mapping[str, Any]) -> ToolResult:
    """Run a tool. A wrong name, wrong parameters or a tool that could not do it are an unsuccessful result."""
    tool = TOOLS.get(name)
    if tool is None:
        return ToolResult(f"There is no tool named {name}.", success=False)
    known = tool.parameters["properties"]
    wrong = [key for key, value in parameters.items() if key not in known or not isinstance(value, str)]
    missing = [key for key in tool.parameters.get("required", ()) if key not in parameters]
    if wrong or missing:
        return ToolResult(f"{name} does not take {json.dumps(sorted(wrong + missing))}.", success=False)
    try:
        with _bounded():
            return ToolResult(tool.run(asker, **parameters))
    except ToolFailed as error:
        return ToolResult(str(error), success=False)
