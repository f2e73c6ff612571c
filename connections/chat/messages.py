"""Conversations and messages in the database. Synchronous; each call is its own transaction.

A sequence number is assigned under the lock of the conversation's row, so that numbers commit in order: a reader who
has read number n has missed nothing below n.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import IntegrityError
from django.db.models import Max, Q

from connections import database
from connections.chat.frames import UserMessage, frame
from connections.chat.limits import CONVERSATIONS_LISTED, CONVERSATIONS_PER_USER, TURNS_WAITING
from connections.chat.models import AgentTurn, Conversation, Message
from connections.chat.states import Role
from connections.models.routing import users

# So that a transaction of somebody else under the same role, which may stay open for days, makes no round read it all.
LONGEST_STALL = timedelta(minutes=10)

# A step of an agent on the way to its answer: {thought}, or {tool, parameters, result, success, duration_ms}.
Step = Mapping[str, Any]


class NotFound(Exception):
    """The conversation does not exist, or is another user's; the error does not say which."""


class TooManyConversations(Exception):
    pass


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """`previous_at` is when the message before it was stored; None if it is the first, or if that is not known."""

    conversation: UUID
    seq: int
    role: str
    text: str
    created_at: datetime
    client_id: UUID | None
    steps: Sequence[Step] = ()
    previous_at: datetime | None = None

    def as_frame(self) -> str:
        return frame(
            "message",
            conversation=self.conversation,
            seq=self.seq,
            role=self.role,
            text=self.text,
            created_at=self.created_at,
            client_id=self.client_id,
            steps=self.steps or None,
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """`fresh` is False for a resend, which stored nothing. `run` is the turn that answers it."""

    message: StoredMessage
    fresh: bool
    run: UUID | None = None


def stored_form(row: Message, previous_at: datetime | None = None) -> StoredMessage:
    return StoredMessage(
        row.conversation_id, row.seq, row.role, row.text, row.created_at, row.client_id, row.steps, previous_at
    )


def add_user_message(user_id: Any, sent: UserMessage) -> Stored:
    """Store the message and queue the turn that answers it; a resend changes nothing.

    Raises NotFound, TooManyConversations, and the database's errors.
    """
    try:
        with database.atomic():
            return _add_user_message(user_id, sent)
    except IntegrityError:
        # Another socket sent the same client_id at the same time, and that message was stored first.
        earlier = _stored_with(user_id, sent.client_id)
        if earlier is None:
            raise
        return earlier


def _stored_with(user_id: Any, client_id: UUID) -> Stored | None:
    row = Message.objects.filter(sender_id=user_id, client_id=client_id).first()
    return None if row is None else Stored(stored_form(row), fresh=False)


def _add_user_message(user_id: Any, sent: UserMessage) -> Stored:
    conversation = None if sent.conversation is None else locked(sent.conversation, user_id)
    earlier = _stored_with(user_id, sent.client_id)
    if earlier is not None:
        return earlier
    if conversation is None:
        conversation = _begin(user_id, sent.text)
        now = conversation.created_at
    else:
        now = database.now()  # read under the lock, so that times have the order of the numbers
    previous_at = conversation.updated_at if conversation.last_seq else None
    row = append(conversation, Role.USER, sent.text, now, sender_id=user_id, client_id=sent.client_id)
    return Stored(stored_form(row, previous_at), fresh=True, run=_queue_turn(conversation, row, now))


def locked(conversation_id: UUID, user_id: Any) -> Conversation:
    """Lock the user's conversation until the transaction ends. Raises NotFound."""
    found: Conversation | None = (
        Conversation.objects.select_for_update(no_key=True).filter(id=conversation_id, user_id=user_id).first()
    )
    if found is None:
        raise NotFound
    return found


def _begin(user_id: Any, text: str) -> Conversation:
    # The user's row is locked for the count, so that two conversations begun at once are counted one after the other.
    users().select_for_update(no_key=True).filter(pk=user_id).first()
    if Conversation.objects.filter(user_id=user_id).count() >= CONVERSATIONS_PER_USER:
        raise TooManyConversations
    now = database.now()  # read under the lock, so that it is not long before the commit
    return Conversation.objects.create(
        id=uuid4(), user_id=user_id, title=title_of(text), created_at=now, updated_at=now
    )


def title_of(text: str) -> str:
    """The first words of the text, on one line, at most 80 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 80 else line[:79].rstrip() + "…"


def append(
    conversation: Conversation,
    role: Role,
    text: str,
    now: datetime,
    *,
    sender_id: Any = None,
    client_id: UUID | None = None,
    steps: Sequence[Step] = (),
) -> Message:
    """Add a message to a conversation whose row this transaction has locked or made."""
    conversation.last_seq += 1
    conversation.updated_at = now
    row = Message.objects.create(
        conversation=conversation,
        seq=conversation.last_seq,
        role=role.value,
        text=text,
        sender_id=sender_id,
        client_id=client_id,
        steps=list(steps),
        created_at=now,
    )
    conversation.save(update_fields=["last_seq", "updated_at"])
    return row


def _queue_turn(conversation: Conversation, question: Message, now: datetime) -> UUID:
    waiting = list(AgentTurn.objects.queued().filter(conversation=conversation).order_by("question__seq"))
    if len(waiting) >= TURNS_WAITING:
        last = waiting[-1]
        # Conditional, since a node may claim it just now.
        joined = AgentTurn.objects.queued().filter(id=last.id).update(question=question, joined=last.joined + 1)
        if joined:
            run: UUID = last.id
            return run
    turn = AgentTurn.objects.create(
        id=uuid4(), user_id=conversation.user_id, conversation=conversation, question=question, asked_at=now
    )
    return turn.id


def history_before(conversation_id: UUID, seq: int, limit: int) -> tuple[tuple[str, str], ...]:
    """(role, text) of the last messages below `seq`, the oldest first."""
    rows = Message.objects.filter(conversation_id=conversation_id, seq__lt=seq).order_by("-seq")[:limit]
    return tuple(reversed(rows.values_list("role", "text")))


def messages_after(
    user_id: Any, conversation_id: UUID, after_seq: int, limit: int, upto: int | None = None
) -> list[StoredMessage]:
    """At most `limit` messages above `after_seq`, and not above `upto`, in order. Raises NotFound."""
    rows = _own(user_id, conversation_id).messages.filter(seq__gt=after_seq)
    if upto is not None:
        rows = rows.filter(seq__lte=upto)
    return [stored_form(row) for row in rows.order_by("seq")[:limit]]


def with_previous(row: Message) -> StoredMessage:
    """The message of a row, with the time of the one before it."""
    before = Message.objects.filter(conversation_id=row.conversation_id, seq=row.seq - 1)
    return stored_form(row, before.values_list("created_at", flat=True).first())


def message(user_id: Any, conversation_id: UUID, seq: int) -> StoredMessage | None:
    """One message, with the time of the one before it. Raises NotFound."""
    _, last = messages_before(user_id, conversation_id, seq + 1, 2)
    if not last or last[-1].seq != seq:
        return None
    return replace(last[-1], previous_at=last[0].created_at if len(last) == 2 else None)


def seq_at(user_id: Any, conversation_id: UUID, at: datetime) -> int:
    """The highest sequence number assigned until `at`. Raises NotFound."""
    rows = _own(user_id, conversation_id).messages.filter(created_at__lte=at)
    return rows.order_by("-seq").values_list("seq", flat=True).first() or 0


def messages_before(
    user_id: Any, conversation_id: UUID, before_seq: int, limit: int
) -> tuple[str, list[StoredMessage]]:
    """The conversation's title, and its last `limit` messages below `before_seq`, in order. Raises NotFound."""
    conversation = _own(user_id, conversation_id)
    rows = conversation.messages.filter(seq__lt=before_seq).order_by("-seq")[:limit]
    return conversation.title, [stored_form(row) for row in reversed(rows)]


@dataclass(frozen=True, slots=True)
class Changed:
    """A conversation that got a message, and when."""

    user_id: Any
    conversation: UUID
    last_seq: int
    at: datetime


def changed_since(since: datetime) -> list[Changed]:
    """The conversations of all users that got a message after `since`."""
    rows = Conversation.objects.filter(updated_at__gt=since)
    return [Changed(*row) for row in rows.values_list("user_id", "id", "last_seq", "updated_at")]


def settled_until() -> datetime:
    """A time of the past: whatever message is not committed yet has a later one, however long its transaction stalls.

    A message's time is read after its transaction has locked a row. On PostgreSQL everybody sees such a transaction;
    SQLite has one writer at a time, so that times commit in their order.
    """
    if database.is_sqlite():
        latest: datetime | None = Conversation.objects.aggregate(latest=Max("updated_at"))["latest"]
        return database.now() if latest is None else latest
    with database.current().cursor() as cursor:
        # Read before the transactions are looked at, which `clock_timestamp` would not be.
        cursor.execute(
            "SELECT greatest(least(statement_timestamp(), min(xact_start)),"
            " statement_timestamp() - make_interval(secs => %s))"
            " FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND datname = current_database()",
            [LONGEST_STALL.total_seconds()],
        )
        (at,) = cursor.fetchone()
    return at  # type: ignore[no-any-return]  # psycopg gives an aware datetime


def last_seq(user_id: Any, conversation_id: UUID) -> int:
    """Raises NotFound."""
    return _own(user_id, conversation_id).last_seq


def _own(user_id: Any, conversation_id: UUID) -> Conversation:
    found: Conversation | None = Conversation.objects.filter(id=conversation_id, user_id=user_id).first()
    if found is None:
        raise NotFound
    return found


def conversations(user_id: Any, before: UUID | None = None) -> dict[str, Any]:
    """A page of the user's conversations, the latest first; with `before`, the page that follows that conversation:
    `{conversations: [{id, title, last_seq, updated_at}], more}`. Raises NotFound.
    """
    rows = Conversation.objects.filter(user_id=user_id).order_by("-updated_at", "-id")
    if before is not None:
        last = _own(user_id, before)
        rows = rows.filter(Q(updated_at__lt=last.updated_at) | Q(updated_at=last.updated_at, id__lt=last.id))
    found = list(rows[: CONVERSATIONS_LISTED + 1])
    listed = [
        {"id": str(row.id), "title": row.title, "last_seq": row.last_seq, "updated_at": row.updated_at.isoformat()}
        for row in found[:CONVERSATIONS_LISTED]
    ]
    return {"conversations": listed, "more": len(found) > CONVERSATIONS_LISTED}
