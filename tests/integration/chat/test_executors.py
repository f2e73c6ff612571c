"""The chat's threads on a real PostgreSQL whose connections are lost, may only read, or meet locks, in a project that
sets no time limits.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from pytest_django import DjangoDbBlocker

from connections import database
from connections.chat import executors
from connections.chat.executors import in_database
from connections.chat.models import Conversation, Message
from tests.support.chat_turns import ask
from tests.support.databases import Database
from tests.support.default_database import default_database
from tests.support.rows import make_user

T = TypeVar("T")

CALLS = 8  # at once: more than there are threads
LOCK = "SELECT 1 FROM chat_conversation WHERE id = %s FOR UPDATE"


@pytest.fixture
def user(postgres_database: Database, django_db_blocker: DjangoDbBlocker) -> Iterator[User]:
    with django_db_blocker.unblock(), default_database(postgres_database.url):
        yield make_user("ada")


async def in_each_thread(function: Callable[[], T]) -> list[T]:
    """Run a function in every thread for messages, at the same moment."""

    def slowly() -> T:
        time.sleep(0.05)
        return function()

    return list(await asyncio.gather(*(in_database(slowly) for _ in range(4))))


def backend() -> object:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()


def statement(sql: str) -> Callable[[], object]:
    def execute() -> object:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone() if cursor.description else None

    return execute


async def ask_many(user: User) -> None:
    await asyncio.gather(*(in_database(ask, user, f"message {number}") for number in range(CALLS)))


def test_a_connection_that_the_server_ended_fails_no_call(user: User, postgres_database: Database) -> None:
    async def main() -> None:
        before = await in_each_thread(backend)
        postgres_database.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await ask_many(user)
        assert not set(before) & set(await in_each_thread(backend))

    asyncio.run(main())
    connection.close()  # the test's own was ended as well
    assert Message.objects.count() == CALLS


def test_a_connection_to_a_server_that_became_a_standby_is_thrown_away(user: User) -> None:
    async def main() -> None:
        await in_each_thread(statement("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
        await ask_many(user)

    asyncio.run(main())
    assert Message.objects.count() == CALLS


def test_the_error_of_a_new_connection_is_raised(user: User) -> None:
    """A call that runs again and again would keep its thread for as long as the outage lasts."""
    calls = list[int]()

    def away() -> None:
        calls.append(1)
        statement("SELECT pg_terminate_backend(pg_backend_pid())")()

    async def main() -> None:
        await in_database(database.throw_away)
        with pytest.raises(OperationalError):
            await in_database(away)

    asyncio.run(main())
    assert len(calls) <= 2


def test_a_lock_that_ends_in_time_costs_nothing_but_the_wait(user: User, postgres_database: Database) -> None:
    conversation = ask(user).message.conversation

    async def main() -> None:
        with psycopg.connect(postgres_database.url) as stranger:
            stranger.execute(LOCK, [conversation])
            waits = [asyncio.create_task(in_database(ask, user, "hello", conversation)) for _ in range(CALLS)]
            await asyncio.sleep(0.5)
            began = time.monotonic()
            await in_database(ask, user, "elsewhere")
            assert time.monotonic() - began < 0.3
            stranger.rollback()
            await asyncio.gather(*waits)

    asyncio.run(main())
    assert Conversation.objects.get(id=conversation).last_seq == 1 + CALLS


@pytest.mark.parametrize("what", ["a row", "the table"])
def test_a_lock_that_lasts_is_told_as_one_in_time(what: str, user: User, postgres_database: Database) -> None:
    conversation = ask(user).message.conversation

    async def main() -> None:
        with psycopg.connect(postgres_database.url) as stranger:
            if what == "a row":
                stranger.execute(LOCK, [conversation])
            else:
                stranger.execute("LOCK TABLE chat_message IN ACCESS EXCLUSIVE MODE")
            began = time.monotonic()
            with pytest.raises(database.Busy):
                await in_database(ask, user, "hello", conversation)
            assert time.monotonic() - began < executors.CALL_SECONDS + 0.5
            await asyncio.sleep(10 * executors.LOCK_SECONDS)  # the last attempt may wait still, and would be let in
            stranger.rollback()

    asyncio.run(main())
    assert Message.objects.count() == 1


def test_the_waits_are_bounded_in_a_project_that_bounds_none(user: User) -> None:
    assert statement("SHOW lock_timeout")() == ("0",)
    timeouts = "SELECT setting::int FROM pg_settings WHERE name IN ('lock_timeout', 'statement_timeout',"
    timeouts += " 'idle_in_transaction_session_timeout')"

    def bounds() -> list[int]:
        with connection.cursor() as cursor:
            cursor.execute(timeouts)
            return [row[0] for row in cursor.fetchall()]

    found = asyncio.run(in_each_thread(bounds))
    assert all(0 < milliseconds <= 5000 for each in found for milliseconds in each)
