"""Every ending of a socket frees its slot within its bound, records the reason, and closes the transport."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path

from tests.support.clients import connect, eventually, run
from tests.support.databases import Database, TestUser
from tests.support.endings import (
    APPS_ENV,
    AT_ONCE,
    CLOSE_SECONDS,
    GRACE_SECONDS,
    HANDSHAKE_SECONDS,
    PACE,
    SETTINGS,
    STUCK_SECONDS,
    Stage,
    expect_close,
    on_both_servers,
)
from tests.support.scenes import MARGIN, Serve, close_reasons, held_ids, records
from tests.support.servers import Server


class Endings(Stage):
    """One method for each ending, which ends the socket of one user."""

    async def clean_close(self, user: str) -> None:
        client = await self.connect(user, "/ws/chat/")
        await client.close()
        await self.wait_until_freed(user, "client_closed", AT_ONCE)

    async def gone_without_a_close(self, user: str) -> None:
        client = await self.connect(user, "/ws/chat/")
        await client.vanish()
        await self.wait_until_freed(user, "client_gone", AT_ONCE)

    async def never_answers(self, user: str) -> None:
        client = await self.connect(user, "/ws/chat/", answers_pings=False)
        await self.wait_until_freed(user, "unresponsive", PACE.heartbeat + PACE.pong)
        await expect_close(client, 4408, "unresponsive")

    async def handler_raises(self, user: str) -> None:
        client = await self.connect(user, "/ws/raise/", frames=1)
        await self.wait_until_freed(user, "handler_failed", AT_ONCE)
        await expect_close(client, 4500, "handler_failed")

    async def handler_raises_before_it_accepts(self, user: str) -> None:
        client = await connect(self.server, self.database.user(user), path="/ws/raise-in-connect/")
        await self.wait_until_freed(user, "handler_failed", AT_ONCE)
        await expect_close(client, 4500, "handler_failed")

    async def handler_raises_at_the_end(self, user: str) -> None:
        client = await self.connect(user, "/ws/raise-in-disconnect/")
        await client.close()
        await self.wait_until_freed(user, "client_closed", AT_ONCE)

    async def handler_is_cancelled(self, user: str) -> None:
        client = await self.connect(user, "/ws/cancelled/", frames=1)
        await self.wait_until_freed(user, "handler_failed", AT_ONCE)
        await expect_close(client, 4500, "handler_failed")

    async def channel_layer_fails(self, user: str) -> None:
        client = await self.connect(user, "/ws/layer/", frames=1)
        await self.wait_until_freed(user, "handler_failed", AT_ONCE)
        await expect_close(client, 4500, "handler_failed")

    async def handler_returns(self, user: str) -> None:
        client = await self.connect(user, "/ws/return/", frames=1)
        await self.wait_until_freed(user, "app_closed", AT_ONCE)
        assert await client.closed() == 1000

    async def handler_is_stuck(self, user: str) -> None:
        client = await self.connect(user, "/ws/stuck/", frames=2)
        await self.wait_until_freed(user, "stuck", STUCK_SECONDS)
        await expect_close(client, 4408, "stuck")

    async def never_accepts(self, user: str) -> None:
        client = await connect(self.server, self.database.user(user), path="/ws/silent/")
        await self.wait_until_freed(user, "never_opened", HANDSHAKE_SECONDS)
        await expect_close(client, 4408, "never_opened")

    async def swallows_its_cancellation(self, user: str) -> None:
        client = await self.connect(user, "/ws/swallow/", frames=2)
        await self.wait_until_freed(user, "stuck", STUCK_SECONDS)
        await expect_close(client, 4408, "stuck")


@on_both_servers
def test_each_ending_frees_its_slot_in_time(kind: str, serve: Serve, database: Database) -> None:
    server = serve(database, ready="/readyz", kind=kind, env=APPS_ENV, **SETTINGS)
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
        await eventually(
            lambda: "handler_abandoned" in server.output(), within=GRACE_SECONDS + MARGIN, why="it is given up"
        )
        assert server.output().count("handler_abandoned") == 1  # only the handler that ignores its cancellation
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
    """How many open sockets the server's process has."""
    names = list(Path(f"/proc/{server.pid}/fd").iterdir())
    return sum(str(name.readlink()).startswith("socket:") for name in names if name.is_symlink())


REPEATED = {  # by path: the reason of the ending, and the client's close code
    "/ws/raise/": ("handler_failed", 4500),
    "/ws/raise-in-connect/": ("handler_failed", 4500),
    "/ws/raise-in-disconnect/": ("client_closed", 1000),
    "/ws/cancelled/": ("handler_failed", 4500),
    "/ws/layer/": ("handler_failed", 4500),
    "/ws/return/": ("app_closed", 1000),
    "/ws/chat/": ("client_gone", 1006),
}
ROUNDS = 6


async def end_once(server: Server, user: TestUser, path: str, code: int) -> None:
    """Connect a client whose socket ends with this close code, as the path's application or the client ends it."""
    client = await connect(server, user, path=path)
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


@on_both_servers
def test_endings_leave_nothing_in_the_process(kind: str, serve: Serve, database: Database) -> None:
    roomy = SETTINGS | {"soft_limit": 100, "connect_rate": "1000/1"}  # all endings at once are one user's
    server = serve(database, ready="/readyz", kind=kind, env=APPS_ENV, **roomy)
    stage, user = Stage(server, database), database.user("u1")

    async def main() -> None:
        counter = await stage.connect("admin", "/ws/census/")

        async def settled(most: dict[str, int]) -> dict[str, int]:
            """Wait until the process holds at most `most` objects of each kind, and return how many it holds."""
            until = time.monotonic() + GRACE_SECONDS + CLOSE_SECONDS + PACE.beat + MARGIN
            while True:
                await counter.send("count")
                left = {**await counter.expect("census"), "sockets": sockets_of(server)}
                if all(left[what] <= number for what, number in most.items()):
                    return {what: left[what] for what in ("managers", "handlers", "registered", "tasks", "sockets")}
                assert time.monotonic() < until, (most, left)
                await asyncio.sleep(0.5)

        await end_once(server, user, "/ws/chat/", 1006)  # some objects that the first chat creates stay for ever
        before = await settled({"managers": 1, "handlers": 1, "registered": 1})
        for _ in range(ROUNDS):
            await asyncio.gather(*(end_once(server, user, path, code) for path, (_, code) in REPEATED.items()))
        await settled(before)
        await eventually(lambda: not held_ids(database, user), within=MARGIN, why="the last one is written")
        found = close_reasons(database, user)
        for reason in {reason for reason, _ in REPEATED.values()}:
            rounds = ROUNDS * sum(reason == each for each, _ in REPEATED.values())
            assert found[reason] == rounds + (reason == "client_gone"), found

    run(main())
