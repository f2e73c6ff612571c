"""The main job: dead managers have taken all slots of a user, who recovers by a command, a connect, or by waiting."""

import asyncio
import time
from typing import Any

import pytest

from tests.support.clients import connect, eventually, run
from tests.support.databases import Database
from tests.support.processes import manage_json
from tests.support.scenes import (
    AUTOMATIC,
    PAUSED,
    Serve,
    StuckUser,
    check_chat_works,
    close_reasons,
    counted_ids,
    fenced_nodes,
    lease_is_over,
    make_stuck_user,
    manager_of,
    records,
    rows_except_probes,
    start_together,
    wait_until_counted,
)
from tests.support.servers import Server

SETTINGS = PAUSED.settings()
FREED = {"node_lost": 12, "unresponsive": 5}


def ask(database: Database, *arguments: object) -> dict[str, Any]:
    document: dict[str, Any] = manage_json(*arguments, db=database, **SETTINGS)
    return document


async def diagnosed(database: Database, stuck: StuckUser) -> None:
    found = await asyncio.to_thread(ask, database, "diagnose_user", stuck.user.name)
    causes = {cause["code"]: cause["count"] for cause in found["causes"]}
    assert causes["node_lost"] == 12, found
    assert causes["unresponsive"] == 5, found
    assert (found["held"], found["counted"], found["soft_limit"], found["ceiling"]) == (20, 20, 20, 25)
    assert found["suggestion"] == "recover"
    assert all(number in str(found["summary"]) for number in ("20", "17", "12", "5")), found["summary"]
    assert fenced_nodes(database) == []


async def foreseen(database: Database, stuck: StuckUser) -> None:
    found = await asyncio.to_thread(ask, database, "recover_user", stuck.user.name, "--dry-run")
    assert (found["kind"], found["outcome"]) == ("dry_run", "recovered")
    would = {m["id"] for m in found["managers"] if m["action"] == "would_free"}
    assert would == stuck.dead_ids
    assert (found["before"], found["after"], found["freed"], found["spared"]) == (20, 3, FREED, 3)


async def recovered(database: Database, stuck: StuckUser) -> None:
    found = await asyncio.to_thread(ask, database, "recover_user", stuck.user.name, "--reason", "a ticket")
    assert (found["kind"], found["outcome"]) == ("cleanup", "recovered")
    assert (found["before"], found["after"], found["freed"], found["spared"]) == (20, 3, FREED, 3)
    managers: list[dict[str, str]] = found["managers"]
    assert {m["id"] for m in managers if m["action"] == "freed"} == stuck.dead_ids
    assert {m["id"] for m in managers if m["action"] == "spared"} == stuck.living_ids
    assert all(m["evidence"] for m in managers)
    assert close_reasons(database, stuck.user) == FREED
    assert [await client.closed() for client in stuck.silent] == [4408] * 5
    await asyncio.gather(*map(check_chat_works, stuck.living))
    assert counted_ids(database, stuck.user) == stuck.living_ids
    audited = database.query("SELECT action, reason FROM connections_auditentry WHERE user_id = ?", [stuck.user.id])
    assert ("cleanup", "a ticket") in audited


async def gets_in(serving: Server, database: Database, stuck: StuckUser) -> None:
    assert len(counted_ids(database, stuck.user)) == 20
    started = time.monotonic()
    new = await connect(serving, stuck.user, device=None)
    await new.expect("ready", timeout=1, live=21)
    assert time.monotonic() - started < 1
    await wait_until_counted(database, stuck.user, [*stuck.living, new], within=PAUSED.back_at_limit)
    await asyncio.gather(*map(check_chat_works, [*stuck.living, new]))
    assert close_reasons(database, stuck.user) == FREED


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
def test_a_stuck_user_is_diagnosed_and_recovered_and_another_connects_without_staff(
    kind: str, serve: Serve, database: Database
) -> None:
    nodes = [
        serve(database, start=False, kind=kind, node_name=name, **SETTINGS) for name in ("web-1", "web-2", "web-3")
    ]
    start_together(*nodes)
    serving, doomed, doomed_too = nodes

    async def main() -> None:
        first, second = await asyncio.gather(
            make_stuck_user(database.user("u1"), serving=serving, doomed=doomed),
            make_stuck_user(database.user("u2"), serving=serving, doomed=doomed_too),
        )
        doomed.kill()
        doomed_too.kill()
        await eventually(
            lambda: lease_is_over(database, "web-2") and lease_is_over(database, "web-3"),
            within=PAUSED.lease + PAUSED.beat + 1,
        )
        before = rows_except_probes(database)
        await diagnosed(database, first)
        await foreseen(database, first)
        assert rows_except_probes(database) == before
        others = records(database, second.user)
        await recovered(database, first)
        assert records(database, second.user) == others  # the run changed no record of another user
        await gets_in(serving, database, second)

    run(main())


def test_on_automatic_settings_all_dead_managers_are_freed_without_staff(serve: Serve, database: Database) -> None:
    serving, doomed = (
        serve(database, start=False, node_name=name, **AUTOMATIC.settings()) for name in ("web-1", "web-2")
    )
    start_together(serving, doomed)

    async def main() -> None:
        stuck = await make_stuck_user(database.user("u3"), serving=serving, doomed=doomed)
        silent = {manager_of(client) for client in stuck.silent}
        opened = time.monotonic()
        # Until the other node is steady, as the nodes of a deployment are, and so can be a witness.
        await asyncio.sleep(AUTOMATIC.lease)
        doomed.kill()
        died = time.monotonic()
        await eventually(
            lambda: not silent & counted_ids(database, stuck.user),
            within=max(0.01, AUTOMATIC.silent_freed - (time.monotonic() - opened)),
            why="the silent are gone",
        )
        await wait_until_counted(
            database, stuck.user, stuck.living, within=AUTOMATIC.lost_freed - (time.monotonic() - died)
        )
        assert close_reasons(database, stuck.user) == FREED
        assert fenced_nodes(database) == ["web-2"]
        await asyncio.gather(*map(check_chat_works, stuck.living))

    run(main())
