"""Clients that read no bytes, that read slowly, and that send faster than the handler reads."""

import asyncio
import time

import pytest

from tests.support.clients import run
from tests.support.databases import Database
from tests.support.endings import (
    APPS_ENV,
    AT_ONCE,
    CLOSE_SECONDS,
    PACE,
    SEND_SECONDS,
    SETTINGS,
    STUCK_SECONDS,
    Stage,
    expect_close,
    on_both_servers,
)
from tests.support.scenes import MARGIN, Serve, check_chat_works, manager_of, record_of


@on_both_servers
def test_a_client_that_takes_no_bytes_is_gone_after_the_send_timeout(
    kind: str, serve: Serve, database: Database
) -> None:
    unhurried = SETTINGS | {"heartbeat_seconds": 60}  # so that the client is not closed as unresponsive first
    stage = Stage(serve(database, ready="/readyz", kind=kind, env=APPS_ENV, **unhurried), database)

    async def goes(user: str, path: str) -> None:
        client = await stage.connect(user, path)
        client.stop_reading()
        await client.send("go")
        # The buffers between server and client fill within a second. Then the closing frame and the close have
        # their own time, a beat of the defaults, on a server that waits for the client to read them.
        await stage.wait_until_freed(user, "client_gone", 1 + SEND_SECONDS + CLOSE_SECONDS)
        await asyncio.sleep(CLOSE_SECONDS + MARGIN)
        client.go_on_reading()  # too late to read a close frame: the server has cut the connection
        assert await client.closed() == 1006

    async def main() -> None:
        await asyncio.gather(goes("u1", "/ws/flood/"), goes("u2", "/plain/flood/"))

    run(main())


# More than the buffers between server and client hold. uvicorn sends it in one frame; Daphne sends up to 1 MiB in one.
@pytest.mark.parametrize(("kind", "count", "size"), [("daphne", 40, 750_000), ("uvicorn", 1, 30_000_000)])
def test_a_client_that_takes_much_slowly_but_steadily_is_spared(
    kind: str, count: int, size: int, serve: Serve, database: Database
) -> None:
    unhurried = SETTINGS | {"heartbeat_seconds": 60}  # a ping would come behind all these bytes
    stage = Stage(serve(database, ready="/readyz", kind=kind, env=APPS_ENV, **unhurried), database)

    async def takes_its_time(user: str, path: str) -> None:
        client = await stage.connect(user, path)
        client.stop_reading()
        await client.send("go", count=count, size=size)
        began = time.monotonic()
        while client.is_open and len(client.of("padding")) < count:
            await client.sip()
            await asyncio.sleep(0.04)
        assert client.is_open, client.close_code
        assert time.monotonic() - began > 2 * SEND_SECONDS, "it was too fast to prove anything"
        client.go_on_reading()
        assert record_of(database, database.user(user), manager_of(client)).state == "live"

    async def main() -> None:
        await asyncio.gather(takes_its_time("u1", "/ws/large/"), takes_its_time("u2", "/plain/large/"))

    run(main())


@on_both_servers
def test_on_a_route_without_injected_frames_a_client_gets_only_the_close_code(
    kind: str, serve: Serve, database: Database
) -> None:
    stage = Stage(serve(database, ready="/readyz", kind=kind, env=APPS_ENV, **SETTINGS), database)

    async def handler_raises(user: str) -> None:
        client = await stage.connect(user, "/plain/raise/", frames=1)
        await stage.wait_until_freed(user, "handler_failed", AT_ONCE)
        assert await client.closed() == 4500
        assert [frame["type"] for frame in client.frames] == ["ready"]

    async def handler_is_stuck(user: str) -> None:
        client = await stage.connect(user, "/plain/stuck/", frames=2)
        await stage.wait_until_freed(user, "stuck", STUCK_SECONDS)
        assert await client.closed() == 4408
        assert [frame["type"] for frame in client.frames] == ["ready"]

    async def half_open(user: str) -> None:
        client = await stage.connect(user, "/plain/echo/")
        client.stop_reading()  # the client's library answers no protocol ping either
        # On both servers a protocol ping costs up to two seconds more, which is a beat of the defaults.
        await stage.wait_until_freed(user, "client_gone", PACE.heartbeat + PACE.pong + 2)
        client.go_on_reading()
        # uvicorn sends a close frame with 1011 before it cuts the connection.
        assert await client.closed() in (1006, 1011)

    async def silent_but_alive(user: str) -> None:
        client = await stage.connect(user, "/plain/echo/")
        await asyncio.sleep(3 * (PACE.heartbeat + PACE.pong))
        await client.send("hello")
        await client.expect("echo")
        assert {frame["type"] for frame in client.frames} == {"ready", "echo"}
        assert record_of(database, database.user(user), manager_of(client)).state == "live"

    async def main() -> None:
        await asyncio.gather(handler_raises("u1"), handler_is_stuck("u2"), half_open("u3"), silent_but_alive("u4"))

    run(main())


@on_both_servers
def test_frames_that_come_faster_than_they_are_handled_end_their_own_socket_only(
    kind: str, serve: Serve, database: Database
) -> None:
    server = serve(database, ready="/readyz", kind=kind, env=APPS_ENV, **SETTINGS, queue_frames=5)
    stage = Stage(server, database)

    async def main() -> None:
        neighbour = await stage.connect("u2", "/ws/chat/")
        patient = await stage.connect("u3", "/ws/slow/", frames=5)
        hasty = await stage.connect("u1", "/ws/slow/", frames=50)
        await expect_close(hasty, 4408, "stuck")
        await stage.wait_until_freed("u1", "stuck", AT_ONCE)
        await check_chat_works(neighbour)
        await asyncio.sleep(STUCK_SECONDS + PACE.beat)
        assert patient.is_open
        assert neighbour.is_open

    run(main())
