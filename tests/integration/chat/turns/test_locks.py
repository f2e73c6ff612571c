"""Another client's transaction holds rows of turns, on a real PostgreSQL: other turns are requeued and claimed, and an
answer is stored once after the lock's end.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from django.contrib.auth.models import User
from pytest_django import DjangoDbBlocker

from connections import database
from connections.chat import executors
from connections.chat.agents.protocol import Delta
from connections.chat.executors import in_database
from connections.chat.limits import STRAY_SECONDS
from connections.chat.models import AgentTurn, Message
from connections.chat.states import Role, TurnState
from connections.chat.turns import rows as turn_rows
from connections.chat.turns import runner as runner_module
from tests.support.chat_turns import Answer, Scripted, answered, ask
from tests.support.databases import Database
from tests.support.default_database import default_database
from tests.support.rows import lost_node, make_node, make_user

TURN = "SELECT 1 FROM chat_agentturn WHERE id = %s FOR UPDATE"
CONVERSATION = (
    "SELECT 1 FROM chat_conversation WHERE id = (SELECT conversation_id FROM chat_agentturn WHERE id = %s) FOR UPDATE"
)


@pytest.fixture
def user(postgres_database: Database, django_db_blocker: DjangoDbBlocker) -> Iterator[User]:
    with django_db_blocker.unblock(), default_database(postgres_database.url):
        yield make_user("ada")


@contextmanager
def held(postgres: Database, statement: str, *parameters: object) -> Iterator[None]:
    with psycopg.connect(postgres.url) as stranger:
        stranger.execute(statement.encode(), parameters)
        yield
        stranger.rollback()


@pytest.mark.parametrize("statement", [TURN, CONVERSATION], ids=["turn", "conversation"])
@pytest.mark.parametrize("kind", ["of a lost node", "stray"])
def test_a_locked_turn_keeps_no_younger_one_from_being_requeued(
    kind: str, statement: str, user: User, postgres_database: Database
) -> None:
    node, now = (lost_node() if kind == "of a lost node" else make_node()), database.now()
    for _ in range(2):
        ask(user)
        assert turn_rows.claim(user.pk, node.pk)
    locked, free = AgentTurn.objects.order_by("started_at")
    late = now + timedelta(seconds=STRAY_SECONDS + 1)
    with held(postgres_database, statement, locked.pk):
        turn_rows.requeue_abandoned(late, limit=1, here=node.pk)
        assert [turn.pk for turn in AgentTurn.objects.queued()] == [free.pk]
    turn_rows.requeue_abandoned(late, limit=1, here=node.pk)
    assert {turn.pk for turn in AgentTurn.objects.queued()} == {locked.pk, free.pk}


def test_a_locked_question_keeps_no_other_users_from_being_claimed(user: User, postgres_database: Database) -> None:
    other = make_user("grace")
    ask(user)
    ask(other)
    with held(postgres_database, TURN, AgentTurn.objects.get(user=user).pk):
        assert turn_rows.requeue_abandoned(database.now(), limit=1) == ([], {other.pk})
    assert turn_rows.requeue_abandoned(database.now(), limit=1) == ([], {user.pk})


def test_a_lock_on_the_nodes_row_keeps_no_turn_from_being_claimed(user: User, postgres_database: Database) -> None:
    node = make_node()
    ask(user)
    with held(postgres_database, "SELECT 1 FROM connections_node WHERE id = %s FOR UPDATE", node.pk):
        claimed = asyncio.run(in_database(turn_rows.claim, user.pk, node.pk))
    assert claimed is not None


def test_an_answer_into_a_locked_conversation_is_stored_once_when_the_lock_ends(
    user: User, postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "CALL_SECONDS", 0.3)
    monkeypatch.setattr(runner_module, "FINISH_DELAYS", (0.1,) * 30)
    stored, stranger = ask(user), psycopg.connect(postgres_database.url)
    run = AgentTurn.objects.get().pk

    async def script() -> Answer:
        stranger.execute(CONVERSATION, [run])
        threading.Timer(1.5, stranger.close).start()
        yield Delta("here it is")

    socket, turn = answered(stored, user, Scripted(script))
    assert [frame["text"] for frame in socket.of("agent_completed")] == ["here it is"]
    assert (turn.state, turn.attempt) == (TurnState.COMPLETED, 1)
    assert Message.objects.filter(role=Role.ASSISTANT.value).count() == 1
