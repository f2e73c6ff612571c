"""A session engine that hangs, on a real node: what is known of sessions comes late, and nothing else does."""

import asyncio
from pathlib import Path

import pytest

from tests.support.clients import connect, eventually, run
from tests.support.databases import Database
from tests.support.http_browser import HttpBrowser
from tests.support.scenes import Pace, Serve, check_chat_works, fenced_nodes, manager_of, record_of

PACE = Pace(beat=0.25, lease=2.0)
EXIT_SECONDS = 15.0  # a drain has 10 s; the cache hangs for 30 s


@pytest.mark.parametrize(("engine", "kind"), [("cache", "daphne"), ("cached_db", "uvicorn")])
def test_a_cache_that_hangs_delays_what_is_known_of_sessions_and_nothing_else(
    engine: str, kind: str, serve: Serve, database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.support.settings",
        "SESSION_ENGINE": f"django.contrib.sessions.backends.{engine}",
        "CACHE_FOLDER": str(folder),
        "CACHE_BACKEND": "tests.support.caches.HangingCache",
    }
    server = serve(database, ready="/readyz", kind=kind, env=env, **PACE.settings(reconcile_seconds=0.5))

    async def main() -> None:
        users = [
            await asyncio.to_thread(HttpBrowser(server).log_in, database.user(name)) for name in ("u1", "u2", "u3")
        ]
        stays, disabled = await connect(server, users[0]), await connect(server, users[1])
        for client in (stays, disabled):
            await client.expect("ready")
        (folder / "hang").touch()
        await eventually((folder / "hanging").exists, within=10, why="the check of sessions hangs")
        await asyncio.sleep(1.5 * PACE.lease)  # whatever the lease needs has not been done for longer than it lasts
        assert (await asyncio.to_thread(server.get, "/readyz"))[0] == 200
        newcomer = await connect(server, users[2])
        await newcomer.expect("ready")
        await check_chat_works(newcomer)
        await check_chat_works(stays)
        database.query("UPDATE auth_user SET is_active = ? WHERE id = ?", [False, users[1].id])
        assert await disabled.closed(5) == 4403, "accounts are in no cache"
        order_reset(database, manager_of(newcomer))
        assert await newcomer.closed(5) == 4411, "orders are carried out"
        assert stays.is_open
        assert fenced_nodes(database) == []
        server.terminate()
        assert await stays.closed(EXIT_SECONDS) == 4012
        assert await server.ended(EXIT_SECONDS) == 0
        assert record_of(database, users[0], manager_of(stays)).reason == "node_draining"

    run(main())


def order_reset(database: Database, manager: str) -> None:
    database.query(
        "UPDATE connections_managerrecord SET state = 'closing', closing_at = opened_at, close_reason = 'reset',"
        " evidence = 'by hand', actor_kind = 'command' WHERE id = ?",
        [manager.replace("-", "")],
    )
