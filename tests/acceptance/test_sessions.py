"""A reconcile closes exactly the sockets whose log-in has ended, with every session engine."""

import asyncio
from pathlib import Path

import pytest

from tests.support.clients import ChatClient, connect, eventually, run
from tests.support.databases import Database, TestUser
from tests.support.http_browser import HttpBrowser
from tests.support.scenes import MARGIN, PAUSED, Serve, check_chat_works, manager_of, record_of

RECONCILE = 0.5
SETTINGS = PAUSED.settings(reconcile_seconds=RECONCILE)
WITHIN = RECONCILE + 2 * PAUSED.beat + MARGIN
# With these engines a log-out is stored where a node can see it. A signed cookie is stored only in the browser.
STORED = {"db", "cache"}


async def ended(
    client: ChatClient, database: Database, user: TestUser, why: str, reason: str = "session_ended"
) -> None:
    """Wait until a socket is closed because its session has ended, and check what client and record say."""
    assert await client.closed(WITHIN) == 4403
    assert client.closing is not None
    assert (client.closing["reason"], client.closing["reconnect"]) == (reason, "never")
    manager = manager_of(client)
    await eventually(lambda: record_of(database, user, manager).state == "closed")
    record = record_of(database, user, manager)
    assert (record.reason, record.evidence) == (reason, why)


@pytest.mark.parametrize(("engine", "kind"), [("db", "daphne"), ("cache", "uvicorn"), ("signed_cookies", "daphne")])
def test_only_sockets_of_ended_sessions_and_disabled_accounts_are_closed(
    engine: str, kind: str, serve: Serve, database: Database, tmp_path: Path
) -> None:
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.support.settings",
        "SESSION_ENGINE": f"django.contrib.sessions.backends.{engine}",
        "CACHE_FOLDER": str(tmp_path / "cache"),
    }
    server = serve(database, ready="/readyz", kind=kind, env=env, **SETTINGS)

    async def opened(user: str) -> tuple[HttpBrowser, ChatClient]:
        browser = HttpBrowser(server)
        client = await connect(server, await asyncio.to_thread(browser.log_in, database.user(user)))
        await client.expect("ready")
        return browser, client

    async def main() -> None:
        (_, stays), (leaving, left), (_, changed), (_, disabled) = await asyncio.gather(
            *map(opened, ("u1", "u2", "u3", "u4"))
        )
        await asyncio.to_thread(leaving.log_out)
        if engine in STORED:
            await ended(left, database, database.user("u2"), "the session was ended")
        database.query("UPDATE auth_user SET password = 'new' WHERE id = ?", [database.user("u3").id])
        database.query("UPDATE auth_user SET is_active = ? WHERE id = ?", [False, database.user("u4").id])
        await ended(changed, database, database.user("u3"), "the password was changed")
        await ended(disabled, database, database.user("u4"), "the account was deactivated", "account_disabled")
        # The reconcile that closed the last socket has checked these too.
        await check_chat_works(stays)
        if engine not in STORED:
            await check_chat_works(left)

    run(main())


def test_a_log_out_closes_its_sockets_at_once_and_no_others(serve: Serve, database: Database) -> None:
    """A bell brings the log-out to the nodes, long before a reconcile."""
    server, user = serve(database, ready="/readyz", reconcile_seconds=300), database.user("u1")

    async def main() -> None:
        leaving, staying = HttpBrowser(server), HttpBrowser(server)
        left = await connect(server, await asyncio.to_thread(leaving.log_in, user))
        stays = await connect(server, await asyncio.to_thread(staying.log_in, user))
        for client in (left, stays):
            await client.expect("ready")
        await asyncio.to_thread(leaving.log_out)
        assert await left.closed(5) == 4403
        assert left.closing is not None
        assert (left.closing["reason"], left.closing["reconnect"]) == ("session_ended", "never")
        await check_chat_works(stays)

    run(main())
