"""A message whose transaction stalls between its time and its commit is found without its bell, on PostgreSQL."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection
from pytest_django import DjangoDbBlocker

from connections import database
from connections.bus import Bus
from connections.chat import messages
from connections.chat.delivery import hub as hub_module
from connections.chat.delivery.hub import Hub
from connections.chat.executors import in_database
from connections.chat.frames import UserMessage
from connections.chat.messages import StoredMessage
from connections.chat.turns import rows as turn_rows
from tests.support.chat_turns import Socket, ask
from tests.support.databases import Database
from tests.support.default_database import default_database
from tests.support.rows import make_node, make_user

OVERLAP, ROUNDS = 0.05, 5


@pytest.fixture
def user(postgres_database: Database, django_db_blocker: DjangoDbBlocker) -> Iterator[User]:
    with django_db_blocker.unblock(), default_database(postgres_database.url):
        yield make_user("ada")


def begin(user: User, conversation: UUID) -> StoredMessage:
    key = uuid4()
    return messages.add_user_message(user.pk, UserMessage(key, None, "a new conversation", str(key))).message


def go_on(user: User, conversation: UUID) -> StoredMessage:
    return ask(user, "one more", conversation).message


def answer(user: User, conversation: UUID) -> StoredMessage:
    claimed = turn_rows.claim(user.pk, make_node().pk)
    assert claimed is not None
    ended = turn_rows.finish(claimed.run, claimed.attempt, "the answer")
    assert ended is not None
    return ended.message


@pytest.mark.parametrize("write", [begin, go_on, answer])
def test_a_message_that_is_committed_long_after_its_time_is_found(
    write: Callable[[User, UUID], StoredMessage], user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "OVERLAP_SECONDS", OVERLAP)
    conversation, append = ask(user).message.conversation, messages.append
    stalled, may_commit, stored = threading.Event(), threading.Event(), list[StoredMessage]()

    def stalls(*arguments: object, **fields: object) -> object:
        row = append(*arguments, **fields)  # type: ignore[arg-type]
        stalled.set()
        may_commit.wait(10)
        return row

    def write_slowly() -> None:
        with closing(connection):
            stored.append(write(user, conversation))

    async def main() -> list[int]:
        hub, socket = Hub(Bus()), Socket(user)
        reader = hub.attach(socket, await in_database(database.now))  # type: ignore[arg-type]
        await reader.resume(conversation, 1, _no_send)
        monkeypatch.setattr(messages, "append", stalls)
        monkeypatch.setattr(turn_rows, "append", stalls)
        writing = threading.Thread(target=write_slowly)
        writing.start()
        await asyncio.to_thread(stalled.wait, 10)
        looked: datetime | None = None
        for _ in range(ROUNDS):
            looked = await hub._catch_up_once(looked)
            await asyncio.sleep(2 * OVERLAP)
        assert socket.frames == []
        may_commit.set()
        await asyncio.to_thread(writing.join, 10)
        await hub._catch_up_once(looked)
        while reader._tasks or hub._tasks:
            await asyncio.sleep(0.01)
        hub.detach(reader)
        return [frame["seq"] for frame in socket.of("message")]

    assert asyncio.run(main()) == [stored[0].seq]


def test_a_strangers_transaction_of_days_makes_no_round_read_the_rows_of_days(
    user: User, postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "LONGEST_STALL", timedelta(seconds=0.2))
    with psycopg.connect(postgres_database.url) as stranger:
        stranger.execute("CREATE TABLE theirs (id int)")
        began = database.now()
        while (now := database.now()) < began + timedelta(seconds=0.5):
            assert messages.settled_until() <= now
        assert messages.settled_until() > began


async def _no_send(text: str) -> None:
    raise AssertionError(f"sent {text}")
