"""One server for all tests of a module that leave the server as it is; each test takes users of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.databases import Database, SQLiteTemplate, TestUser
from tests.support.servers import Server


@dataclass
class Shared:
    server: Server
    database: Database
    users: Iterator[TestUser]

    def user(self) -> TestUser:
        """Take a user that no other test of the module has; there are nine."""
        return next(self.users)


@pytest.fixture(scope="module")
def _shared(sqlite_template: SQLiteTemplate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder: Path = tmp_path_factory.mktemp("shared")
    with sqlite_template.copy(folder) as database:
        server = Server(database, folder / "server.log")
        users = [database.user(f"u{number}") for number in range(1, 10)]
        try:
            yield Shared(server.start(), database, iter(users))
        finally:
            server.clean_up()


@pytest.fixture
def shared(_shared: Shared) -> Iterator[Shared]:
    began = len(_shared.server.output())
    yield _shared
    print(_shared.server.output()[began:][-20_000:])  # pytest shows it if the test has failed
