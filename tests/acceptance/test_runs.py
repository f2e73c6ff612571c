"""A run belongs to nobody: it goes on when who asked for it has died, and who asks a second time joins it."""

import asyncio
import subprocess
import sys
from typing import Any

from tests.support.clients import connect_many, eventually, run
from tests.support.databases import Database, TestUser
from tests.support.processes import environment, manage_json, overrides
from tests.support.scenes import MARGIN, Pace, Serve, agree, chats, ready, reasons

PACE = Pace(sweep=0, probe=2.5)  # long enough for a second click to find the first run under way
SETTINGS = PACE.settings()


def ended_runs(database: Database, user: TestUser) -> list[tuple[Any, ...]]:
    return database.query(
        "SELECT outcome, before, after FROM connections_recoveryrun WHERE user_id = ? AND finished_at IS NOT NULL",
        [user.id],
    )


def recover_process(database: Database, user: TestUser) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "manage.py", "recover_user", user.name],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **environment({"DATABASE_URL": database.url} | overrides(SETTINGS)),
    )


def test_a_run_outlives_who_asked_for_it_and_two_clicks_are_one_run(serve: Serve, database: Database) -> None:
    server = serve(database, ready="/readyz", **SETTINGS)
    ada, grace = database.user("u1"), database.user("u2")

    async def the_command_is_killed() -> None:
        silent, living = await connect_many(2, server, ada, answers_pings=False), await connect_many(3, server, ada)
        await ready([*silent, *living])
        command = recover_process(database, ada)
        try:
            await eventually(
                lambda: database.query("SELECT id FROM connections_recoveryrun WHERE user_id = ?", [ada.id]),
                within=20,
                every=0.01,
            )
        finally:
            command.kill()
            await asyncio.to_thread(command.wait, 5)
        assert ended_runs(database, ada) == []
        await eventually(lambda: ended_runs(database, ada), within=PACE.settled + MARGIN)
        assert ended_runs(database, ada) == [("recovered", 5, 3)]
        assert reasons(database, ada) == {"unresponsive": 2}
        await agree(database, ada, living, within=MARGIN)
        await asyncio.gather(*map(chats, living))

    async def two_at_once() -> None:
        silent, living = await connect_many(2, server, grace, answers_pings=False), await connect_many(3, server, grace)
        await ready([*silent, *living])

        def click(reason: str) -> Any:
            return manage_json("recover_user", f"{grace.name}@example.org", "--reason", reason, db=database, **SETTINGS)

        first, second = await asyncio.gather(*(asyncio.to_thread(click, reason) for reason in ("one", "two")))
        assert first["run"] == second["run"]
        for report in (first, second):
            assert (report["outcome"], report["before"], report["after"]) == ("recovered", 5, 3)
            assert report["freed"] == {"unresponsive": 2}
        assert ended_runs(database, grace) == [("recovered", 5, 3)]
        entries = database.query(
            "SELECT reason, outcome, run_id FROM connections_auditentry WHERE user_id = ?", [grace.id]
        )
        assert {entry[0] for entry in entries} == {"one", "two"}
        assert sorted(entry[1] for entry in entries) == ["joined", "opened"]
        assert len({entry[2] for entry in entries}) == 1

    async def main() -> None:
        await asyncio.gather(the_command_is_killed(), two_at_once())

    run(main())
