"""A real PostgreSQL behind the tests' own connection, as an engine thread has it."""

from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from connections import database
from tests.support.databases import Database
from tests.support.default_database import default_database


@pytest.fixture
def postgres(postgres_database: Database, django_db_blocker: DjangoDbBlocker) -> Iterator[Database]:
    with (
        django_db_blocker.unblock(),
        default_database(postgres_database.url),
        database.own_connection(20.0, lock_seconds=0.25),  # a busy machine is no frozen database
    ):
        yield postgres_database
