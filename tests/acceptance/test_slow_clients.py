"""Clients that take no bytes, that take them slowly, and that send faster than they are handled."""

import asyncio
import time

import pytest

from tests.support.clients import run
from tests.support.databases import Database
from tests.support.endings import (
    APPS,
    AT_ONCE,
    GOODBYE,
    KINDS,
    PACE,
    SEND,
    SETTINGS,
    STUCK,
    Stage,
    told,
)
from tests.support.scenes import MARGIN, Serve, chats, manager_of, record_of


@KINDS
def test_a_client_that_takes_no_bytes_is_gone_after_the_send_timeout(
    kind: str, serve: Serve, database: Database
) -> None:
    unhurried = SETTINGS | {"heartbeat_seconds": 60}  # or it would be unresponsive before
    stage = Stage(serve(database, ready="/readyz", kind=kind, env=APPS, **unhurried), database)

    async def goes(user: str, path: str) -> None:
        client = await stage.opened(user, path)
        client.stop_reading()
        await client.send("go")
        # The buffers between the two take a second of frames before anything is left over; then the last words have
        # their own time, a beat of the defaults, where the server waits for the client to take them.
        await stage.freed(user, "client_gone", 1 + SEND + GOODBYE)
        await asyncio.sleep(GOODBYE + MARGIN)
        client.go_on_reading()  # too late for its close: it was cut off
        assert await client.closed() == 1006

    async def main() -> None:
        await asyncio.gather(goes("u1", "/ws/flood/"), goes("u2", "/plain/flood/"))

    run(main())


# More than the buffers between the two take. One frame, where the server sends any size: Daphne, up to 1 MiB.
@pytest.mark.parametrize(("kind", "count", "size"), [("daphne", 40, 750_000), ("uvicorn", 1, 30_000_000)])
def test_a_client_that_takes_much_slowly_but_steadily_is_spared(
    kind: str, count: int, size: int, serve: Serve, database: Database
) -> None:
    unhurried = SETTINGS | {"heartbeat_seconds": 60}  # what it is pinged would come behind all that
    stage = Stage(serve(database, ready="/readyz", kind=kind, env=APPS, **unhurried), database)

    async def takes_its_time(user: str, path: str) -> None:
        client = await stage.opened(user, path)
        client.stop_reading()
        await client.send("go", count=count, size=size)
        began = time.monotonic()
        while client.is_open and len(client.of("padding")) < count:
            await client.sip()
            await asyncio.sleep(0.04)
        assert client.is_open, client.close_code
        assert time.monotonic() - began > 2 * SEND, "it was too fast to prove anything"
        client.go_on_reading()
        assert record_of(database, database.user(user), manager_of(client)).state == "live"

    async def main() -> None:
        await asyncio.gather(takes_its_time("u1", "/ws/large/"), takes_its_time("u2", "/plain/large/"))

    run(main())


@KINDS
def test_on_a_route_without_our_frames_the_close_code_alone_speaks(kind: str, serve: Serve, database: Database) -> None:
    stage = Stage(serve(database, ready="/readyz", kind=kind, env=APPS, **SETTINGS), database)

    async def handler_raises(user: str) -> None:
        client = await stage.opened(user, "/plain/raise/", frames=1)
        await stage.freed(user, "handler_failed", AT_ONCE)
        assert await client.closed() == 4500
        assert [frame["type"] for frame in client.frames] == ["ready"]

    async def handler_is_stuck(user: str) -> None:
        client = await stage.opened(user, "/plain/stuck/", frames=2)
        await stage.freed(user, "stuck", STUCK)
        assert await client.closed() == 4408
        assert [frame["type"] for frame in client.frames] == ["ready"]

    async def half_open(user: str) -> None:
        client = await stage.opened(user, "/plain/echo/")
        client.stop_reading()  # its library answers no protocol ping either
        # On both servers a protocol ping costs up to two seconds more, which is a beat of the defaults.
        await stage.freed(user, "client_gone", PACE.heartbeat + PACE.pong + 2)
        client.go_on_reading()
        assert await client.closed() in (1006, 1011)  # uvicorn sends the close of RFC 6455 before it cuts

    async def silent_but_alive(user: str) -> None:
        client = await stage.opened(user, "/plain/echo/")
        await asyncio.sleep(3 * (PACE.heartbeat + PACE.pong))
        await client.send("hello")
        await client.expect("echo")
        assert {frame["type"] for frame in client.frames} == {"ready", "echo"}
        assert record_of(database, database.user(user), manager_of(client)).state == "live"

    async def main() -> None:
        await asyncio.gather(handler_raises("u1"), handler_is_stuck("u2"), half_open("u3"), silent_but_alive("u4"))

    run(main())


@KINDS
def test_frames_that_come_faster_than_they_are_handled_end_their_own_socket_only(
    kind: str, serve: Serve, database: Database
) -> None:
    server = serve(database, ready="/readyz", kind=kind, env=APPS, **SETTINGS, queue_frames=5)
    stage = Stage(server, database)

    async def main() -> None:
        neighbour = await stage.opened("u2", "/ws/chat/")
        patient = await stage.opened("u3", "/ws/slow/", frames=5)
        hasty = await stage.opened("u1", "/ws/slow/", frames=50)
        await told(hasty, 4408, "stuck")
        await stage.freed("u1", "stuck", AT_ONCE)
        await chats(neighbour)
        await asyncio.sleep(STUCK + PACE.beat)
        assert patient.is_open
        assert neighbour.is_open

    run(main())
