"""Another program holds a lock on a node's own row for longer than a lease: the node is the first to get it back."""

import asyncio
import time

import psycopg

from tests.support.clients import connect_many, eventually, run
from tests.support.databases import Database
from tests.support.scenes import Pace, Serve, check_chat_works, fenced_nodes, start_together, wait_until_ready

PACE = Pace(beat=0.5, lease=3.0, sweep=0.25)
HELD = 1.5 * PACE.lease
GAP = 0.1  # seconds without a renewal that waits: long enough for a sweep to find the row free and the lease over
WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND query LIKE 'UPDATE \"connections_node\"%'"
)


def hold_the_row(url: str, name: str) -> bool:
    """Hold the node's row for HELD seconds, and then until no renewal waits for it, for two seconds at most. Returns
    whether there was such a moment.
    """
    with psycopg.connect(url) as stranger, psycopg.connect(url, autocommit=True) as observer:
        stranger.execute("SELECT 1 FROM connections_node WHERE name = %s FOR UPDATE", [name])
        time.sleep(HELD)
        until, waited_at = time.monotonic() + 2, time.monotonic()
        while time.monotonic() < until:
            if observer.execute(WAITING).fetchall() != [(0,)]:
                waited_at = time.monotonic()
            elif time.monotonic() - waited_at > GAP:
                return True
            time.sleep(0.005)
    return False


def test_a_node_whose_row_another_program_locks_is_not_fenced(serve: Serve, postgres_database: Database) -> None:
    database = postgres_database
    nodes = [
        serve(database, start=False, kind=kind, node_name=name, **PACE.settings())
        for kind, name in (("daphne", "web-1"), ("uvicorn", "web-2"))
    ]
    start_together(*nodes)
    user = database.user("u1")

    async def main() -> None:
        clients = await connect_many(6, lambda number: nodes[number % 2], user)
        await wait_until_ready(clients)
        await asyncio.sleep(PACE.lease)  # until web-2 is steady, and could fence web-1
        had_gap = await asyncio.to_thread(hold_the_row, database.url, "web-1")
        await eventually(lambda: nodes[0].get("/readyz")[0] == 200, within=PACE.lease)
        await asyncio.sleep(2 * 1.2 * PACE.sweep + PACE.beat)  # long enough for each node to sweep and fence
        assert fenced_nodes(database) == []
        assert all(client.is_open for client in clients)
        await asyncio.gather(*map(check_chat_works, clients))
        assert not had_gap, "for a while no renewal waited for the row"

    run(main())
