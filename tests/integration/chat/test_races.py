"""The chat's rows on a real PostgreSQL, where two really do it at once: SQLite has one writer, and hides races."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection
from pytest_django import DjangoDbBlocker

from connections import database
from connections.chat import limits, messages
from connections.chat.agents import tools
from connections.chat.agents.tools import ToolContext
from connections.chat.frames import UserMessage
from connections.chat.models import AgentTurn, Conversation, Message
from connections.chat.states import Role
from connections.chat.turns import rows as turn_rows
from tests.support.concurrency import run_concurrently
from tests.support.databases import Database
from tests.support.default_database import default_database
from tests.support.rows import lost_node, make_node, make_user

AT_ONCE = 12


@pytest.fixture
def user(postgres_database: Database, django_db_blocker: DjangoDbBlocker) -> Iterator[User]:
    with django_db_blocker.unblock(), default_database(postgres_database.url):
        yield make_user("ada")


def ask(user: User, text: str = "hello", conversation: UUID | None = None, key: UUID | None = None) -> messages.Stored:
    key = key or uuid4()
    return messages.add_user_message(user.pk, UserMessage(key, conversation, text, str(key)))


def test_tabs_that_write_at_once_get_numbers_in_the_order_of_their_times(user: User) -> None:
    conversation = ask(user).message.conversation
    run_concurrently(*(partial(ask, user, f"message {number}", conversation) for number in range(AT_ONCE)))
    rows = list(Message.objects.order_by("seq").values_list("seq", "created_at"))
    assert [seq for seq, _ in rows] == list(range(1, AT_ONCE + 2))
    assert [at for _, at in rows] == sorted(at for _, at in rows)
    questions = AgentTurn.objects.order_by("asked_at").values_list("question__seq", flat=True)
    assert list(questions) == [seq for seq, _ in rows], "they are answered in another order"


@pytest.mark.parametrize("begun", [True, False])
def test_one_message_sent_over_many_sockets_at_once_is_stored_once(user: User, begun: bool) -> None:
    conversation, key = ask(user).message.conversation if begun else None, uuid4()
    stored = run_concurrently(*(partial(ask, user, "again", conversation, key) for _ in range(AT_ONCE)))
    assert len({(each.message.conversation, each.message.seq) for each in stored}) == 1
    assert sum(each.fresh for each in stored) == 1
    assert Conversation.objects.count() == 1


def test_conversations_that_are_begun_at_once_do_not_pass_their_number(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "CONVERSATIONS_PER_USER", 5)

    def begin() -> bool:
        try:
            ask(user)
        except messages.TooManyConversations:
            return False
        return True

    assert sum(run_concurrently(*[begin] * AT_ONCE)) == 5
    assert Conversation.objects.count() == 5


def test_nodes_that_claim_at_once_get_all_that_a_user_may_have_and_no_more(user: User) -> None:
    nodes = [make_node(f"web-{number}") for number in range(6)]
    for _ in range(10):
        AgentTurn.objects.all().delete()
        for _ in range(limits.TURNS_PER_USER + 1):
            ask(user)
        claimed = [
            turn for turn in run_concurrently(*(partial(turn_rows.claim, user.pk, node.pk) for node in nodes)) if turn
        ]
        assert len({turn.run for turn in claimed}) == len(claimed) == limits.TURNS_PER_USER


def test_of_two_who_end_a_turn_one_does_and_both_learn_how(user: User) -> None:
    ask(user)
    claimed = turn_rows.claim(user.pk, make_node().pk)
    assert claimed is not None
    ends = run_concurrently(
        *(partial(turn_rows.finish, claimed.run, claimed.attempt, f"answer {number}") for number in range(6))
    )
    assert len({end.message.text for end in ends}) == 1
    assert Message.objects.filter(role=Role.ASSISTANT.value).count() == 1


def test_two_who_rescue_at_once_begin_a_turn_again_once(user: User) -> None:
    ask(user)
    assert turn_rows.claim(user.pk, lost_node().pk) is not None
    now = database.now()
    run_concurrently(*[partial(turn_rows.requeue_abandoned, now)] * 6)
    assert AgentTurn.objects.get().retries == 1


def test_a_locked_conversation_keeps_no_other_from_being_rescued(user: User, postgres_database: Database) -> None:
    late = database.now() + timedelta(seconds=limits.TURN_SECONDS + limits.TURN_GRACE_SECONDS + 1)
    locked, free = ask(user).message.conversation, ask(user).message.conversation
    assert turn_rows.claim(user.pk, make_node().pk)
    assert turn_rows.claim(user.pk, make_node("web-2").pk)
    with connection.cursor() as cursor, psycopg.connect(postgres_database.url) as stranger:
        cursor.execute("SET lock_timeout = '200ms'")
        stranger.execute("SELECT 1 FROM chat_conversation WHERE id = %s FOR UPDATE", [locked])
        ended, _ = turn_rows.requeue_abandoned(late)
        stranger.rollback()
    assert [end.message.conversation for end in ended] == [free]
    assert [end.message.conversation for end in turn_rows.requeue_abandoned(late)[0]] == [locked]


def test_a_search_reads_what_its_user_wrote_and_not_what_everybody_did(user: User) -> None:
    others = [make_user(f"other-{number}") for number in range(3)]
    for sender in [*others, user]:
        conversation = ask(sender, "the lighthouse").message.conversation
        Message.objects.bulk_create(
            Message(
                conversation_id=conversation, seq=seq, role=Role.USER.value, text=f"words {seq}", sender=sender,
                client_id=uuid4(), created_at=database.now(),
            )
            for seq in range(2, 2000)
        )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE chat_message")
    context = ToolContext(user.pk, uuid4(), None)
    (found,) = tools.run_tool(context, "search_my_conversations", {"query": "lighthouse"}).value
    assert found["excerpt"] == "the lighthouse"
    plan = tools.messages_sent_by(user.pk).filter(text__icontains="lighthouse").explain()
    assert "message_client_id" in plan
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",), "the bound of a tool is the tool's"


def test_a_search_that_takes_too_long_is_ended_by_the_server(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "TOOL_SECONDS", 0.1)

    def slow(context: ToolContext) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(5)")

    monkeypatch.setitem(tools.TOOLS, "slow", tools.Tool("slow", "", {"properties": {}}, slow))
    with pytest.raises(database.AWAY[0], match="statement timeout"):
        tools.run_tool(ToolContext(user.pk, uuid4(), None), "slow", {})
    assert tools.run_tool(ToolContext(user.pk, uuid4(), None), "my_sessions", {}).success
