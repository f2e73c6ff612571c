"""The tests' own helpers work on both servers, and fail where they should."""

import signal
import time
from collections.abc import Callable

import pytest

from tests.support.clients import close_all, connect, connect_many, connected, eventually, run
from tests.support.databases import Database
from tests.support.processes import manage, manage_json
from tests.support.servers import Server, free_port

Start = Callable[[], Server]


@pytest.fixture(params=["daphne", "uvicorn"])
def stub(request: pytest.FixtureRequest, serve: Callable[..., Server], database: Database) -> Start:
    """A function that starts a server with the stub application."""

    def start() -> Server:
        port = free_port()
        host = ["-b", "127.0.0.1", "-p"] if request.param == "daphne" else ["--host", "127.0.0.1", "--port"]
        command = ["-m", request.param, *host, str(port), "tests.support.stub_app:application"]
        return serve(database, port=port, command=command)

    return start


def test_a_client_sends_its_cookie_and_answers_pings(stub: Start, database: Database) -> None:
    server = stub()
    user = database.user("u1")

    async def main() -> None:
        async with connected(server, user, device="d", attempt=7) as client:
            ready = client.of("ready")[0]
            assert ready["query"] == "device=d&attempt=7"
            assert ready["headers"]["origin"] == server.url
            assert ready["headers"]["cookie"] == f"sessionid={user.session}"
            await client.expect("echo", frame={"type": "pong", "nonce": "n1"})
            with pytest.raises(AssertionError, match="no echo"):
                await client.expect("echo", timeout=0.1)
            await client.expect_none("echo", during=0.1)
        assert client.close_code == 1000

    run(main())


def test_a_client_can_be_silent_and_learns_how_it_was_closed(stub: Start, database: Database) -> None:
    server = stub()

    async def main() -> None:
        client = await connect(server, database.user("u1"), answers_pings=False, origin=None)
        await client.expect_none("echo", during=0.3)
        await client.send("close_me")
        assert await client.closed() == 4410
        assert client.closing == {"type": "closing", "code": 4410, "reason": "closed_by_staff"}
        with pytest.raises(AssertionError, match="closed with 4410"):
            await client.expect("message")

    run(main())


def test_a_client_can_stop_reading(stub: Start, database: Database) -> None:
    server = stub()

    async def main() -> None:
        client = await connect(server, database.user("u1"))
        await client.expect("ready")
        await client.expect("echo")
        client.stop_reading()
        await client.send("flood")
        await client.expect_none("padding", during=0.5)
        client.go_on_reading()
        await client.expect("padding")

    run(main())


def test_a_server_can_be_frozen_and_killed_under_many_clients(stub: Start, database: Database) -> None:
    killed, frozen = stub(), stub()

    async def main() -> None:
        clients = await connect_many(20, killed, lambda number: database.user(f"u{number % 9 + 1}"))
        others = await connect_many(2, frozen, database.user("u1"))
        for client in [*clients, *others]:
            await client.expect("ready")
            await client.expect("echo")
        frozen.freeze()
        await others[0].send("hello")
        await others[0].expect_none("echo", during=0.5)
        frozen.thaw()
        await others[0].expect("echo")
        await close_all(others)
        killed.kill()
        assert [await client.closed() for client in clients] == [1006] * 20

    run(main())
    assert killed.wait() == -signal.SIGKILL
    killed.start()
    assert killed.get("/")[0] == 200
    frozen.freeze()  # the fixture has to end a frozen server too


def test_a_server_that_does_not_start_says_why(serve: Callable[..., Server], database: Database) -> None:
    start = time.monotonic()
    with pytest.raises(AssertionError, match="No module named 'no_such'"):
        serve(database, command=["-c", "import no_such"])
    assert time.monotonic() - start < 10


def test_eventually_waits_and_gives_up() -> None:
    answers = iter([False, False, True])
    assert run(eventually(lambda: next(answers), within=5)) is True
    with pytest.raises(AssertionError, match="the sky fell"):
        run(eventually(lambda: False, within=0.1, why="the sky fell"))


def test_commands_run_on_the_tests_own_database(database: Database) -> None:
    added = database.add_users(["mallory"], superuser=True)[0]
    assert database.user("mallory") == added
    assert database.query("SELECT id, is_superuser FROM auth_user WHERE username = ?", ["mallory"]) == [
        (added.id, True)
    ]
    result = manage("changepassword", "nobody", db=database)
    assert result.code == 1
    assert "does not exist" in result.err
    with pytest.raises(AssertionError, match="ended with"):
        manage_json("check", db=database)


def test_commands_run_on_a_postgresql_database(postgres_database: Database) -> None:
    added = postgres_database.add_users(["mallory"])[0]
    rows = postgres_database.query("SELECT id FROM auth_user WHERE username = ?", ["mallory"])
    assert rows == [(added.id,)]
    assert manage("migrate", "--check", db=postgres_database).code == 0
