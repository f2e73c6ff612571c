"""One server for all tests of a module, and a user of its own for each test."""

from collections.abc import Iterator

import pytest

from tests.support.databases import Database, SQLiteTemplate, TestUser
from tests.support.servers import Server


@pytest.fixture(scope="module")
def shared(sqlite_template: SQLiteTemplate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with sqlite_template.copy(tmp_path_factory.mktemp("chat")) as copy:
        yield copy


@pytest.fixture(scope="module")
def server(shared: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(shared, tmp_path_factory.mktemp("log") / "server.log", node_name="web-1")
    try:
        yield server.start()
    finally:
        server.clean_up()


@pytest.fixture(scope="module")
def _users(shared: Database) -> Iterator[TestUser]:
    return iter([shared.user(f"u{number}") for number in range(1, 10)])


@pytest.fixture
def user(_users: Iterator[TestUser]) -> TestUser:
    return next(_users)
