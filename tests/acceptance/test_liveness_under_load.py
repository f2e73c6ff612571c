"""Who is judged and who is spared: on an event loop that lags or was stopped, by a handler that stops receiving."""

import asyncio
import time

from tests.support.clients import connect_many, eventually, run
from tests.support.databases import Database
from tests.support.endings import APPS_ENV, SETTINGS, STUCK_SECONDS, Stage, expect_close, on_both_servers
from tests.support.endings import PACE as ENDINGS
from tests.support.scenes import MARGIN, Pace, Serve, held_ids, records, wait_until_ready

# Ticks four times a beat: each of them is late on an event loop that is blocked for 0.3 s of each 0.5 s.
LAGGING = Pace(beat=1.0, lease=8.0, heartbeat=2.0, pong=1.5, sweep=0)
TICK_SECONDS, LAGGING_TICK_SECONDS = LAGGING.beat / 4, 0.5
STOPPED = Pace(lease=8.0, heartbeat=0.5, pong=1.0, sweep=0)


@on_both_servers
def test_a_node_whose_ticks_are_all_late_frees_the_silent_and_spares_the_living(
    kind: str, serve: Serve, database: Database
) -> None:
    server = serve(database, ready="/readyz", kind=kind, env=APPS_ENV, **LAGGING.settings())
    stage = Stage(server, database)
    bound = (LAGGING.heartbeat + LAGGING.pong) * LAGGING_TICK_SECONDS / TICK_SECONDS + LAGGING.beat + MARGIN

    async def main() -> None:
        living = await connect_many(5, server, database.user("u1"))
        await wait_until_ready(living)
        await stage.connect("u2", "/ws/blocks/", frames=1)
        silent = await stage.connect("u3", "/ws/echo/", answers_pings=False)
        half_open = await stage.connect("u4", "/ws/echo/")
        half_open.stop_reading()
        await asyncio.gather(
            stage.wait_until_freed("u3", "unresponsive", bound),
            eventually(lambda: not held_ids(database, database.user("u4")), within=bound, why="half-open"),
        )
        await expect_close(silent, 4408, "unresponsive")
        assert all(client.is_open and client.of("ping") for client in living)

    run(main())


@on_both_servers
def test_a_process_that_was_stopped_closes_no_client_that_answers(kind: str, serve: Serve, database: Database) -> None:
    server = serve(database, ready="/readyz", kind=kind, env=APPS_ENV, **STOPPED.settings(soft_limit=50))

    async def main() -> None:
        living = await connect_many(20, server, database.user("u1"))
        await wait_until_ready(living)
        for _ in range(3):
            await asyncio.sleep(STOPPED.heartbeat + 0.2)
            server.freeze()
            await asyncio.sleep(3 * STOPPED.pong)
            server.thaw()
        await asyncio.sleep(STOPPED.heartbeat + STOPPED.pong + MARGIN)
        assert [client.closing or client.close_code for client in living if not client.is_open] == []
        assert all(client.of("ping") for client in living)
        assert records(database, database.user("u1"), "closing", "closed") == []

    run(main())


class Receivers(Stage):
    """One method for each way in which an application receives, or does not."""

    async def stuck(self, user: str, path: str) -> None:
        client = await self.connect(user, path)
        await asyncio.sleep(STUCK_SECONDS + ENDINGS.beat)  # nothing waits, so nobody is stuck
        assert client.is_open
        began = time.monotonic()
        await client.send("go")
        await self.wait_until_freed(user, "stuck", STUCK_SECONDS)
        assert time.monotonic() - began >= STUCK_SECONDS, "it has had its time"
        await expect_close(client, 4408, "stuck")

    async def receives(self, user: str) -> None:
        client = await self.connect(user, "/ws/polls/")
        until = time.monotonic() + 3 * STUCK_SECONDS
        while time.monotonic() < until:
            await client.send("go")
            await client.expect("echo")
            await asyncio.sleep(0.1)
        await client.close()
        await self.wait_until_freed(user, "client_closed", MARGIN)

    async def pushes(self, user: str) -> None:
        """Nobody receives, and the client sends nothing but its pongs: then nothing is wrong."""
        client = await self.connect(user, "/ws/never-receives/")
        await asyncio.sleep(3 * STUCK_SECONDS)
        assert client.is_open
        assert client.of("ping")
        client.answers_pings = False
        await self.wait_until_freed(user, "unresponsive", ENDINGS.heartbeat + ENDINGS.pong)


@on_both_servers
def test_a_handler_that_leaves_frames_waiting_is_stuck_and_one_that_goes_on_receiving_is_not(
    kind: str, serve: Serve, database: Database
) -> None:
    server = serve(database, ready="/readyz", kind=kind, env=APPS_ENV, **SETTINGS)
    apps = Receivers(server, database)

    async def main() -> None:
        await asyncio.gather(
            apps.stuck("u1", "/ws/gives-up/"),
            apps.stuck("u2", "/ws/never-receives/"),
            apps.receives("u3"),
            apps.pushes("u4"),
        )

    run(main())
