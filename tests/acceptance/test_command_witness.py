"""A command is the witness against the only node, whenever that node dies, and no extra one where nodes live."""

import asyncio
import time

from tests.support.clients import connect_many, run
from tests.support.databases import Database
from tests.support.processes import manage_json
from tests.support.scenes import Pace, Serve, close_reasons, wait_until_ready

PACE = Pace(sweep=0, lease=6.0)  # the command has started long before the lease of the dead node is over
SETTINGS = PACE.settings()


def nodes(database: Database) -> list[tuple[str, bool]]:
    """The name of each node, and whether it serves."""
    return [
        (name, bool(serves))
        for name, serves in database.query("SELECT name, serves FROM connections_node ORDER BY started_at")
    ]


def test_a_recovery_soon_after_the_crash_of_the_only_node_frees_its_managers(serve: Serve, database: Database) -> None:
    server = serve(database, ready="/readyz", node_name="web-1", **SETTINGS)
    user = database.user("u1")

    async def main() -> None:
        await wait_until_ready(await connect_many(20, server, user))
        server.kill()
        began = time.monotonic()
        report = await asyncio.to_thread(manage_json, "recover_user", user.name, db=database, **SETTINGS)
        assert (report["outcome"], report["before"], report["after"]) == ("recovered", 20, 0)
        assert report["freed"] == {"node_lost": 20}
        assert time.monotonic() - began < 4 * PACE.lease + 10, "the start of the command included"

    run(main())
    assert close_reasons(database, user) == {"node_lost": 20}
    [(_, served), (name, serves)] = nodes(database)
    assert (served, serves, name.partition("-")[0]) == (True, False, "command")
    assert database.query("SELECT count(*) FROM connections_node WHERE retired_at IS NOT NULL") == [(1,)]


def test_where_a_living_node_witnesses_a_command_registers_none(serve: Serve, database: Database) -> None:
    server = serve(database, ready="/readyz", node_name="web-1", **SETTINGS)
    user = database.user("u1")

    async def main() -> None:
        await wait_until_ready(await connect_many(2, server, user))
        await asyncio.sleep(PACE.lease)
        report = await asyncio.to_thread(manage_json, "recover_user", user.name, db=database, **SETTINGS)
        assert (report["outcome"], report["spared"]) == ("nothing_to_do", 2)

    run(main())
    assert nodes(database) == [("web-1", True)]
