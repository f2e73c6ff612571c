"""Every ending frees its slot within its bound, says why, and really closes the transport."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path

import pytest

from tests.support.clients import ChatClient, connect, eventually, run
from tests.support.databases import Database, TestUser
from tests.support.scenes import MARGIN, Pace, Serve, chats, held, manager_of, reasons, record_of, records
from tests.support.servers import Server

PACE = Pace(sweep=0, heartbeat=1.0)  # no sweep: each ending frees its slot by itself
AT_ONCE = 1.0  # seconds: a clean close, a handler's exception
STUCK, HANDSHAKE, SEND = 1.0, 1.5, 1.5
GRACE = 8.0 + 2.0  # seconds for a handler to end after its disconnect, and after its cancellation
GOODBYE = 2.0  # seconds for the last words, and again for the close handshake
SETTINGS = PACE.settings(stuck_seconds=STUCK, handshake_seconds=HANDSHAKE, send_seconds=SEND, metrics="on")
APPS = {"DJANGO_SETTINGS_MODULE": "tests.support.settings"}
KINDS = pytest.mark.parametrize("kind", ["daphne", "uvicorn"])


class Stage:
    """One server with the misbehaving applications, and a user for each scene."""

    def __init__(self, server: Server, database: Database) -> None:
        self.server = server
        self.database = database

    async def opened(self, user: str, path: str, *, frames: int = 0, answers_pings: bool = True) -> ChatClient:
        """A client on a path, which then sends so many frames."""
        client = await connect(self.server, self.database.user(user), path=path, answers_pings=answers_pings)
        await client.expect("ready")
        for number in range(frames):
            await client.send("go", number=number)
        return client

    async def freed(self, user: str, reason: str, within: float) -> None:
        """Waits until the one record of a user is closed, for this reason and with its evidence."""
        mine: TestUser = self.database.user(user)
        began = time.monotonic()
        await eventually(
            lambda: [record.state for record in records(self.database, mine)] == ["closed"],
            within=within + PACE.beat + MARGIN,
            why=f"{user} ended with {reason}",
        )
        [record] = records(self.database, mine)
        assert record.reason == reason, (user, record, time.monotonic() - began)
        assert record.evidence
        assert record.actor_kind


async def told(client: ChatClient, code: int, reason: str, reconnect: str = "after") -> None:
    assert await client.closed() == code, client.frames
    assert client.closing is not None
    assert (client.closing["code"], client.closing["reason"], client.closing["reconnect"]) == (code, reason, reconnect)
    assert 0 <= client.closing["retry_after"] <= 30


class Endings(Stage):
    """One ending each, of the socket of one user."""

    async def clean_close(self, user: str) -> None:
        client = await self.opened(user, "/ws/chat/")
        await client.close()
        await self.freed(user, "client_closed", AT_ONCE)

    async def gone_without_a_close(self, user: str) -> None:
        client = await self.opened(user, "/ws/chat/")
        await client.vanish()
        await self.freed(user, "client_gone", AT_ONCE)

    async def never_answers(self, user: str) -> None:
        client = await self.opened(user, "/ws/chat/", answers_pings=False)
        await self.freed(user, "unresponsive", PACE.heartbeat + PACE.pong)
        await told(client, 4408, "unresponsive")

    async def handler_raises(self, user: str) -> None:
        client = await self.opened(user, "/ws/raise/", frames=1)
        await self.freed(user, "handler_failed", AT_ONCE)
        await told(client, 4500, "handler_failed")

    async def handler_raises_before_it_accepts(self, user: str) -> None:
        client = await connect(self.server, self.database.user(user), path="/ws/raise-in-connect/")
        await self.freed(user, "handler_failed", AT_ONCE)
        await told(client, 4500, "handler_failed")

    async def handler_raises_at_the_end(self, user: str) -> None:
        client = await self.opened(user, "/ws/raise-in-disconnect/")
        await client.close()
        await self.freed(user, "client_closed", AT_ONCE)

    async def handler_is_cancelled(self, user: str) -> None:
        client = await self.opened(user, "/ws/cancelled/", frames=1)
        await self.freed(user, "handler_failed", AT_ONCE)
        await told(client, 4500, "handler_failed")

    async def channel_layer_fails(self, user: str) -> None:
        client = await self.opened(user, "/ws/layer/", frames=1)
        await self.freed(user, "handler_failed", AT_ONCE)
        await told(client, 4500, "handler_failed")

    async def handler_returns(self, user: str) -> None:
        client = await self.opened(user, "/ws/return/", frames=1)
        await self.freed(user, "app_closed", AT_ONCE)
        assert await client.closed() == 1000

    async def handler_is_stuck(self, user: str) -> None:
        client = await self.opened(user, "/ws/stuck/", frames=2)
        await self.freed(user, "stuck", STUCK)
        await told(client, 4408, "stuck")

    async def never_accepts(self, user: str) -> None:
        client = await connect(self.server, self.database.user(user), path="/ws/silent/")
        await self.freed(user, "never_opened", HANDSHAKE)
        await told(client, 4408, "never_opened")

    async def swallows_its_cancellation(self, user: str) -> None:
        client = await self.opened(user, "/ws/swallow/", frames=2)
        await self.freed(user, "stuck", STUCK)
        await told(client, 4408, "stuck")


@KINDS
def test_each_ending_frees_its_slot_in_time(kind: str, serve: Serve, database: Database) -> None:
    server = serve(database, ready="/readyz", kind=kind, env=APPS, **SETTINGS)
    endings = Endings(server, database)
    scenes = [
        endings.clean_close,
        endings.gone_without_a_close,
        endings.never_answers,
        endings.handler_raises,
        endings.handler_raises_before_it_accepts,
        endings.handler_raises_at_the_end,
        endings.handler_is_cancelled,
        endings.channel_layer_fails,
        endings.handler_returns,
        endings.handler_is_stuck,
        endings.never_accepts,
        endings.swallows_its_cancellation,
    ]

    async def main() -> None:
        users = [name for name in database.users if name != "admin"]
        playing: list[Awaitable[None]] = [scene(user) for scene, user in zip(scenes, users, strict=True)]
        await asyncio.gather(*playing)
        await eventually(lambda: "handler_abandoned" in server.output(), within=GRACE + MARGIN, why="it is given up")
        assert server.output().count("handler_abandoned") == 1  # the one that swallows its cancellation, and no other
        status, metrics = await asyncio.to_thread(server.get, "/metrics")
        assert status == 200
        assert "connections_handlers_abandoned_total 1.0" in metrics
        assert 'connections_admissions_total{outcome="admitted"} 12.0' in metrics
        closes = dict(re.findall(r'^connections_closes_total{reason="(\w+)"} (\d+)\.0$', metrics, re.MULTILINE))
        closed = [records(database, database.user(user))[0].reason for user in users]
        assert {reason: int(count) for reason, count in closes.items() if count != "0"} == Counter(closed)
        dead = dict(re.findall(r'^connections_dead_total{kind="(\w+)"} (\d+)\.0$', metrics, re.MULTILINE))
        assert dead == {"unresponsive": "1", "stuck": "2", "never_opened": "1", "node_lost": "0", "orphaned": "0"}

    run(main())


def sockets_of(server: Server) -> int:
    """How many sockets the server's process has open."""
    names = list(Path(f"/proc/{server.pid}/fd").iterdir())
    return sum(str(name.readlink()).startswith("socket:") for name in names if name.is_symlink())


REPEATED = {  # path: the reason of its ending, and the code that its client sees
    "/ws/raise/": ("handler_failed", 4500),
    "/ws/raise-in-connect/": ("handler_failed", 4500),
    "/ws/raise-in-disconnect/": ("client_closed", 1000),
    "/ws/cancelled/": ("handler_failed", 4500),
    "/ws/layer/": ("handler_failed", 4500),
    "/ws/return/": ("app_closed", 1000),
    "/ws/chat/": ("client_gone", 1006),
}
ROUNDS = 6


@KINDS
def test_endings_leave_nothing_in_the_process(kind: str, serve: Serve, database: Database) -> None:
    roomy = SETTINGS | {"soft_limit": 100, "connect_rate": "1000/1"}  # one user, all endings at once
    server = serve(database, ready="/readyz", kind=kind, env=APPS, **roomy)
    stage = Stage(server, database)

    async def once(path: str, code: int) -> None:
        client = await connect(server, database.user("u1"), path=path)
        if path == "/ws/raise-in-connect/":
            assert await client.closed() == code
            return
        await client.expect("ready")
        if code == 1006:
            await client.vanish()
        elif path == "/ws/raise-in-disconnect/":
            await client.close()
        else:
            await client.send("go")
            assert await client.closed() == code

    async def main() -> None:
        counter = await stage.opened("admin", "/ws/census/")

        async def settled(most: dict[str, int]) -> dict[str, int]:
            """What is left when all that ended has gone, and there is no more than this of anything."""
            until = time.monotonic() + GRACE + GOODBYE + PACE.beat + MARGIN
            while True:
                await counter.send("count")
                left = {**await counter.expect("census"), "sockets": sockets_of(server)}
                if all(left[what] <= number for what, number in most.items()):
                    return {what: left[what] for what in ("managers", "handlers", "registered", "tasks", "sockets")}
                assert time.monotonic() < until, (most, left)
                await asyncio.sleep(0.5)

        await once("/ws/chat/", 1006)  # what the first chat starts stays
        before = await settled({"managers": 1, "handlers": 1, "registered": 1})
        for _ in range(ROUNDS):
            await asyncio.gather(*(once(path, code) for path, (_, code) in REPEATED.items()))
        await settled(before)
        await eventually(lambda: not held(database, database.user("u1")), within=MARGIN, why="the last one is written")
        found = reasons(database, database.user("u1"))
        for reason in {reason for reason, _ in REPEATED.values()}:
            rounds = ROUNDS * sum(reason == each for each, _ in REPEATED.values())
            assert found[reason] == rounds + (reason == "client_gone"), found

    run(main())


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
