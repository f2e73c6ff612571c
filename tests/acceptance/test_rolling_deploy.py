"""A rolling deploy: nodes of this version beside a newer one, which adds columns and words to the same database.

What the newer version does is done by SQL, as its nodes would do it, under two real nodes of this version.
"""

import asyncio
from uuid import UUID, uuid4

from tests.support.clients import ChatClient, connect, eventually, run
from tests.support.databases import Database, TestUser
from tests.support.http_browser import HttpBrowser
from tests.support.processes import manage_json
from tests.support.scenes import (
    MARGIN,
    Pace,
    Serve,
    check_chat_works,
    close_reasons,
    fenced_nodes,
    manager_of,
    record_of,
    start_together,
    wait_until_ready,
)
from tests.support.servers import Server

PACE = Pace()
SETTINGS = PACE.settings()
BY_NEXT_BEAT = 2 * PACE.beat + 2 * MARGIN

MIGRATION = (
    "ALTER TABLE connections_managerrecord ADD COLUMN zone varchar(20)",
    "ALTER TABLE connections_recoveryrun ADD COLUMN zone varchar(20)",
    "ALTER TABLE connections_node ADD COLUMN build varchar(20) NOT NULL DEFAULT 'unknown'",
    "ALTER TABLE connections_usergate ADD COLUMN quota integer",
    "INSERT INTO django_migrations (app, name, applied) VALUES ('connections', '0099_of_a_newer_version', now())",
)


def order_close(database: Database, client: ChatClient, reason: str, actor: str) -> None:
    database.query(
        "UPDATE connections_managerrecord SET state = 'closing', closing_at = now(), close_reason = ?,"
        " evidence = 'by a newer node', actor_kind = ? WHERE id = ?",
        [reason, actor, manager_of(client)],
    )


def open_run(database: Database, user: TestUser, step: str) -> UUID:
    pk = uuid4()
    database.query(
        "INSERT INTO connections_recoveryrun (id, user_id, user_label, kind, dry_run, step, actor_kind, actor, reason,"
        " opened_at, due_at, outcome, stock, findings, error)"
        " VALUES (?, ?, ?, 'cleanup', false, ?, 'robot', 'r2', 'a newer reason', now(), now(), '', '[]', '[]', '')",
        [pk, user.id, user.name, step],
    )
    return pk


def renewals(database: Database) -> list[tuple[str, float]]:
    return database.query(
        "SELECT name, extract(epoch FROM renewed_at) FROM connections_node WHERE serves ORDER BY name"
    )


async def told(client: ChatClient, code: int) -> dict[str, object]:
    assert await client.closed(BY_NEXT_BEAT) == code
    assert client.closing is not None
    return client.closing


async def check_orders(database: Database, blocked: ChatClient, probed: ChatClient, kicked: ChatClient) -> None:
    """An order with a reason of the newer version is carried out with its word, and the others as always."""
    order_close(database, blocked, "blocked_by_network", "robot")
    database.query(
        "UPDATE connections_managerrecord SET probe_wanted_at = now(), probe_mode = 'gently' WHERE id = ?",
        [manager_of(probed)],
    )
    order_close(database, kicked, "closed_by_staff", "staff")
    frame = await told(blocked, 4408)
    assert (frame["reason"], frame["reconnect"]) == ("blocked_by_network", "after")
    assert 0 < float(str(frame["retry_after"])) <= 30
    assert (await told(kicked, 4410))["reason"] == "closed_by_staff"
    verdict = "SELECT probe_verdict FROM connections_managerrecord WHERE id = ?"
    await eventually(
        lambda: database.query(verdict, [manager_of(probed)]) == [("alive",)],
        within=PACE.probe + BY_NEXT_BEAT,
        why="a probe of an unknown mode is answered",
    )


async def check_leases(database: Database) -> None:
    """Both nodes renew their leases, and keep their identities."""
    before = renewals(database)
    await asyncio.sleep(PACE.lease)
    after = renewals(database)
    assert [name for name, _ in after] == ["web-1", "web-2"], "nobody had to register anew"
    assert all(late > early for (_, early), (_, late) in zip(before, after, strict=True))
    assert fenced_nodes(database) == []


async def check_shown(server: Server, blocked: TestUser, newer_run: UUID) -> None:
    """The words of the newer version are shown as what they are, and its run is left to its nodes."""
    lead, database = HttpBrowser(server, server.database.user("lead")), server.database
    page = await asyncio.to_thread(lead.get, f"/console/users/{blocked.id}/")
    assert (page.status, "blocked by network" in page.text) == (200, True)
    page = await asyncio.to_thread(lead.get, f"/console/runs/{newer_run}/")
    assert (page.status, "compensate" in page.text) == (200, True)
    listed = await asyncio.to_thread(
        manage_json, "list_managers", "--user", blocked.name, "--state", "closed", db=database, **SETTINGS
    )
    assert [row["close_reason"] for row in listed] == ["blocked_by_network"]
    query = "SELECT step, finished_at, error FROM connections_recoveryrun WHERE id = ?"
    assert database.query(query, [newer_run]) == [("compensate", None, "")]


def test_older_nodes_carry_out_every_other_order_beside_a_newer_one(serve: Serve, postgres_database: Database) -> None:
    database = postgres_database
    kinds = (("daphne", "web-1"), ("uvicorn", "web-2"))
    first, second = (serve(database, start=False, kind=kind, node_name=name, **SETTINGS) for kind, name in kinds)
    start_together(first, second)
    users = [database.user(f"u{number}") for number in range(1, 6)]

    async def main() -> None:
        nodes = [first, second, first, first, second]
        clients = [await connect(node, user) for user, node in zip(users, nodes, strict=True)]
        await wait_until_ready(clients)
        blocked, probed, staying, kicked, recovered = clients
        for statement in MIGRATION:
            await asyncio.to_thread(database.query, statement)
        newer_run = open_run(database, users[2], "compensate")
        await check_orders(database, blocked, probed, kicked)
        back = await connect(second, users[0])
        await wait_until_ready([back])
        report = await asyncio.to_thread(manage_json, "recover_user", users[4].name, db=database, **SETTINGS)
        assert (report["outcome"], report["spared"]) == ("nothing_to_do", 1)
        await check_leases(database)
        await asyncio.gather(*map(check_chat_works, (probed, staying, recovered, back)))
        await check_shown(first, users[0], newer_run)

    run(main())
    assert close_reasons(database, users[3]) == {"closed_by_staff": 1}
    logs = [first.output(), second.output()]
    assert not any("Traceback" in log for log in logs)
    assert any("run_of_newer_version" in log for log in logs)


def test_a_node_of_this_version_starts_on_a_database_that_a_newer_one_has_migrated(
    serve: Serve, postgres_database: Database
) -> None:
    """The way back: the old code is started again, and no migration is taken back."""
    for statement in MIGRATION:
        postgres_database.query(statement)
    server = serve(postgres_database, ready="/readyz", **SETTINGS)
    user = postgres_database.user("u1")

    async def main() -> None:
        client = await connect(server, user)
        await wait_until_ready([client])
        await check_chat_works(client)
        assert record_of(postgres_database, user, manager_of(client)).state == "live"

    run(main())
