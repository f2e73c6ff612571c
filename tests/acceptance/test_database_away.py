"""Another process holds SQLite's write lock: no living client is dropped, and newcomers are told to try again."""

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator

from tests.support.clients import connect, connect_many, run
from tests.support.databases import Database
from tests.support.scenes import (
    MARGIN,
    Pace,
    Serve,
    check_chat_works,
    fenced_nodes,
    manager_of,
    record_of,
    start_together,
    told_to_try_again,
    wait_until_counted,
    wait_until_ready,
)

PACE = Pace(lease=3.0, heartbeat=1.0)
LOCKED = 1.5 * PACE.lease


@contextlib.contextmanager
def write_lock(database: Database) -> Iterator[None]:
    path = database.url.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_a_lock_of_one_and_a_half_leases_drops_nobody_and_fences_nobody(serve: Serve, database: Database) -> None:
    nodes = [serve(database, start=False, node_name=name, **PACE.settings()) for name in ("web-1", "web-2")]
    start_together(*nodes)
    user, newcomer = database.user("u1"), database.user("u2")

    async def main() -> None:
        clients = await connect_many(8, lambda number: nodes[number % 2], user)
        await wait_until_ready(clients)
        # Until both nodes are steady, so that each could be a witness and fence the other.
        await asyncio.sleep(PACE.lease)
        leaver, *stayers = clients
        with write_lock(database):
            locked = time.monotonic()
            await leaver.close()
            refused = await told_to_try_again(nodes[0], newcomer)
            assert not refused.of("ready")
            await asyncio.sleep(max(0.0, LOCKED - (time.monotonic() - locked)))
            assert all(client.is_open for client in stayers)
            # A failed health check would restart the node and drop its living clients.
            assert nodes[0].get("/healthz")[0] == 200
            status, body = nodes[0].get("/readyz")
            assert status == 503
            assert "its lease was last renewed" in json.loads(body)["why"]
        await wait_until_counted(database, user, stayers, within=2 * PACE.beat + MARGIN)
        assert record_of(database, user, manager_of(leaver)).reason == "client_closed"
        welcome = await connect(nodes[0], newcomer)
        await welcome.expect("ready")
        await asyncio.gather(*map(check_chat_works, [*stayers, welcome]))
        # Long enough for a sweep of each node, which may not fence the other for the missing renewals.
        await asyncio.sleep(2 * 1.2 * PACE.sweep + PACE.beat)
        assert fenced_nodes(database) == []
        await wait_until_counted(database, user, stayers, within=MARGIN)
        await wait_until_counted(database, newcomer, [welcome], within=MARGIN)
        await asyncio.gather(*map(check_chat_works, [*stayers, welcome]))

    run(main())
