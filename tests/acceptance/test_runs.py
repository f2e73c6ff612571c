"""A run does not depend on the process that asked for it, and a second request joins the open run."""

import asyncio
import signal
import subprocess
import sys
from typing import Any

import psutil
import pytest

from tests.support.clients import connect, connect_many, eventually, run
from tests.support.databases import Database, TestUser
from tests.support.processes import environment, manage_json, overrides
from tests.support.scenes import (
    MARGIN,
    Pace,
    Serve,
    check_chat_works,
    close_reasons,
    wait_until_counted,
    wait_until_ready,
)
from tests.support.servers import Server

PACE = Pace(sweep=0, probe=2.5)  # a long probe, so that the second request finds the first run open
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


def stalling_process(database: Database, user: TestUser, step: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.stalled_reset", user.name, step],
        stdout=subprocess.PIPE,
        text=True,
        **environment({"DATABASE_URL": database.url} | overrides(SETTINGS)),
    )


async def the_command_is_killed(server: Server, database: Database, user: TestUser) -> None:
    """The run of the killed command ends all the same."""
    silent, living = await connect_many(2, server, user, answers_pings=False), await connect_many(3, server, user)
    await wait_until_ready([*silent, *living])
    command = recover_process(database, user)
    try:
        await eventually(
            lambda: database.query("SELECT id FROM connections_recoveryrun WHERE user_id = ?", [user.id]),
            within=20,
            every=0.01,
        )
    finally:
        command.kill()
        await asyncio.to_thread(command.wait, 5)
    assert ended_runs(database, user) == []
    await eventually(lambda: ended_runs(database, user), within=PACE.back_at_limit + MARGIN)
    assert ended_runs(database, user) == [("recovered", 5, 3)]
    assert close_reasons(database, user) == {"unresponsive": 2}
    await wait_until_counted(database, user, living, within=MARGIN)
    await asyncio.gather(*map(check_chat_works, living))


async def two_at_once(server: Server, database: Database, user: TestUser) -> None:
    """Two members of staff ask for a recovery at once, and get the report of one run."""
    silent, living = await connect_many(2, server, user, answers_pings=False), await connect_many(3, server, user)
    await wait_until_ready([*silent, *living])

    def click(reason: str) -> Any:
        return manage_json("recover_user", f"{user.name}@example.org", "--reason", reason, db=database, **SETTINGS)

    first, second = await asyncio.gather(*(asyncio.to_thread(click, reason) for reason in ("one", "two")))
    assert first["run"] == second["run"]
    for report in (first, second):
        assert (report["outcome"], report["before"], report["after"]) == ("recovered", 5, 3)
        assert report["freed"] == {"unresponsive": 2}
    assert ended_runs(database, user) == [("recovered", 5, 3)]
    entries = database.query("SELECT reason, outcome, run_id FROM connections_auditentry WHERE user_id = ?", [user.id])
    assert {entry[0] for entry in entries} == {"one", "two"}
    assert sorted(entry[1] for entry in entries) == ["joined", "opened"]
    assert len({entry[2] for entry in entries}) == 1


def test_a_run_outlives_its_command_and_two_requests_share_one_run(serve: Serve, database: Database) -> None:
    server = serve(database, ready="/readyz", **SETTINGS)
    ada, grace = database.user("u1"), database.user("u2")

    async def main() -> None:
        await asyncio.gather(the_command_is_killed(server, database, ada), two_at_once(server, database, grace))

    run(main())


@pytest.mark.parametrize("step", ["take_stock", "evict"])
def test_a_process_that_stalls_in_a_step_holds_up_no_other(
    step: str, serve: Serve, postgres_database: Database
) -> None:
    """The process locks the run, and gates or records. PostgreSQL ends its transaction, and a node does the step."""
    database = postgres_database
    server = serve(database, kind="uvicorn", ready="/readyz", **SETTINGS)
    user = database.user("u1")
    locked = 2.5  # seconds: how long the engine's connections may sleep in a transaction, at beats below a second

    async def main() -> None:
        clients = await connect_many(4, server, user)
        await wait_until_ready(clients)
        stalling = stalling_process(database, user, step)
        try:
            stopped = psutil.Process(stalling.pid)
            await eventually(lambda: stopped.status() == psutil.STATUS_STOPPED, within=20, every=0.01)
            newcomer = await connect(server, user)
            await newcomer.expect("ready", timeout=locked + MARGIN)
            until = asyncio.get_running_loop().time() + locked + 3 * PACE.beat + MARGIN
            for client in clients:
                assert await client.closed(until - asyncio.get_running_loop().time()) == 4411
            await eventually(lambda: ended_runs(database, user), within=2 * PACE.beat + MARGIN)
            after = ended_runs(database, user), close_reasons(database, user)
            stalling.send_signal(signal.SIGCONT)
            out, _ = await asyncio.to_thread(stalling.communicate, timeout=10)
            assert (stalling.returncode, "its transaction is gone" in out) == (0, True), out
        finally:
            stalling.kill()
            stalling.wait(5)
        ((outcome, before, _),), closed = after
        # The newcomer that connected while the rows were locked may be in the run's stock or not.
        assert (outcome, before) == ("recovered", closed["reset"])
        assert closed in ({"reset": 4}, {"reset": 5}) if step == "take_stock" else closed == {"reset": 4}
        assert (ended_runs(database, user), close_reasons(database, user)) == after
        taken = database.query("SELECT step, count(*) FROM connections_runstep GROUP BY step")
        assert sorted(number for _, number in taken) == [1] * 7

    run(main())
