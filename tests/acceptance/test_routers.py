"""Projects with several databases: all reads go to a replica, or our tables are in another alias."""

import asyncio
import contextlib
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import connect, connect_many, eventually, run
from tests.support.databases import Database, SQLiteTemplate
from tests.support.http_browser import HttpBrowser
from tests.support.processes import manage, manage_json
from tests.support.scenes import (
    AUTOMATIC,
    MARGIN,
    Serve,
    check_chat_works,
    close_reasons,
    highest_count,
    records,
    wait_until_counted,
    wait_until_ready,
)

LIMIT, BURST = 3, 2
SETTINGS: dict[str, Any] = AUTOMATIC.settings(soft_limit=LIMIT, burst=BURST, reconcile_seconds=1)


def database_of(settings: str, folder: Path) -> Database:
    template = SQLiteTemplate(folder / "db.sqlite3", settings)
    return Database(f"sqlite:///{template.path}", template.users, settings)


@pytest.fixture
def with_replica(tmp_path: Path) -> Database:
    """A primary, and a replica that has stopped after the users logged in."""
    made = database_of("tests.support.replica_settings", tmp_path)
    path = made.url.removeprefix("sqlite:///")
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(f"{path}.replica")) as copy,
    ):
        source.backup(copy)
    return made


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
def test_behind_a_lagging_replica_everything_is_decided_by_the_primary(
    kind: str, serve: Serve, with_replica: Database
) -> None:
    database, server = with_replica, serve(with_replica, kind=kind, ready="/readyz", **SETTINGS)
    user, staff = database.user("u1"), HttpBrowser(server, database.user("lead"))

    async def main() -> None:
        with highest_count(database, user) as highest:
            clients = await connect_many(12, server, user)
            await eventually(lambda: sum(c.is_open for c in clients) == LIMIT, within=AUTOMATIC.back_at_limit + 5)
            assert highest() <= LIMIT + BURST
        living = [client for client in clients if client.is_open]
        await wait_until_counted(database, user, living, within=MARGIN)
        await eventually(lambda: close_reasons(database, user) == {"evicted": 12 - LIMIT})
        await asyncio.sleep(2.5)  # two full reconciles
        assert all(client.is_open for client in living)
        await asyncio.gather(*map(check_chat_works, living))

        verdict = await asyncio.to_thread(lambda: manage_json("diagnose_user", "u1", db=database, **SETTINGS))
        assert (verdict["held"], verdict["counted"]) == (LIMIT, LIMIT)
        page = await asyncio.to_thread(staff.get, f"/console/users/{user.id}/")
        assert len(set(re.findall(r"/managers/([0-9a-f-]+)/close/", page.text))) == LIMIT
        form = {"reason": "a ticket", "confirm": "u1"}
        answer = await asyncio.to_thread(lambda: staff.post(f"/console/users/{user.id}/reset/", **form))
        assert answer.status == 303
        assert [await client.closed() for client in living] == [4411] * LIMIT
        deactivate = "UPDATE auth_user SET is_active = 0 WHERE id = ?"
        await connect(server, database.user("u2"))
        await eventually(lambda: records(database, database.user("u2"), "live"))
        database.query(deactivate, [database.user("u2").id])
        await eventually(lambda: close_reasons(database, database.user("u2")) == {"account_disabled": 1})

    run(main())
    assert "Traceback" not in server.output()


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
def test_with_our_tables_in_another_alias_everybody_is_admitted(kind: str, serve: Serve, tmp_path: Path) -> None:
    database = database_of("tests.support.elsewhere_settings", tmp_path)
    server = serve(database, kind=kind, ready="/readyz", **SETTINGS)
    user = database.user("u1")
    sessions = database.url.removeprefix("sqlite:///") + ".default"

    async def main() -> None:
        clients = await asyncio.gather(*(connect(server, database.user(f"u{n % 4 + 1}")) for n in range(12)))
        await wait_until_ready(list(clients))
        await asyncio.gather(*map(check_chat_works, clients))
        await asyncio.sleep(2.5)  # two full reconciles: the sessions are read where they are
        assert all(client.is_open for client in clients)
        with contextlib.closing(sqlite3.connect(sessions, timeout=5, isolation_level=None)) as default:
            default.execute("DELETE FROM django_session WHERE session_key = ?", [user.session])
        assert [await client.closed() for client in clients[::4]] == [4403] * 3
        await eventually(lambda: close_reasons(database, user) == {"session_ended": 3})
        report = await asyncio.to_thread(
            lambda: manage_json("recover_user", "u2", "--reset", "--reason", "a ticket", db=database, **SETTINGS)
        )
        assert (report["outcome"], report["before"], report["after"]) == ("recovered", 3, 0)

    run(main())
    assert "Traceback" not in server.output()


@pytest.mark.parametrize("router", ["UsersElsewhereRouter", "HalfElsewhereRouter"])
def test_databases_on_which_one_transaction_can_not_decide_are_refused(router: str, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'db.sqlite3'}", {}, "tests.support.refused_settings")
    env = {"ROUTER": f"tests.support.routers.{router}"}
    check = manage("check", db=database, env=env)
    assert check.code == 1
    assert "Have DATABASE_ROUTERS give one database" in check.err
    served = manage("serve", "--port", 9, db=database, env=env)
    assert served.code == 1
    assert "Have DATABASE_ROUTERS give one database" in served.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"ENGINE": "tests.support.engine_mysql"}, "is mysql"), ({"USE_TZ": "off"}, "USE_TZ must be on")],
)
def test_a_project_that_can_not_work_is_refused_with_what_to_do(
    settings: dict[str, str], words: str, tmp_path: Path
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'db.sqlite3'}", {}, "tests.support.refused_settings")
    for command in (["check"], ["serve", "--port", "9"]):
        result = manage(*command, db=database, env=settings)
        assert result.code == 1
        assert words in result.err
        assert "Traceback" not in result.err
