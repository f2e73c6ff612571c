"""/readyz is 200 only if the node has committed something within the last lease, and otherwise says what is wrong."""

import asyncio
import json
import time

import psycopg
import pytest

from tests.support.clients import connect, eventually, run
from tests.support.databases import Database
from tests.support.scenes import Pace, Serve

PACE = Pace(beat=0.5, lease=3.0)
SLACK = 6.0  # seconds, added to bounds: the threads have to connect anew, on a busy machine


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
def test_a_node_whose_database_became_read_only_is_not_ready_and_says_so(
    kind: str, serve: Serve, postgres_database: Database
) -> None:
    database = postgres_database
    server = serve(database, ready="/readyz", kind=kind, **PACE.settings())
    name = database.url.split("/")[3].split("?")[0]

    def become_read_only() -> None:
        database.query(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        database.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    def become_writable() -> None:
        with psycopg.connect(database.url, autocommit=True) as operator:
            operator.execute("SET default_transaction_read_only = off")
            operator.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())

    async def main() -> None:
        client = await connect(server, database.user("u1"))
        await client.expect("ready")
        await asyncio.to_thread(become_read_only)
        began = time.monotonic()
        await eventually(lambda: server.get("/readyz")[0] == 503, within=PACE.lease + PACE.beat + SLACK)
        assert time.monotonic() - began > PACE.lease - 2 * PACE.beat
        why = json.loads((await asyncio.to_thread(server.get, "/readyz"))[1])["why"]
        assert "the database is read-only" in why
        status, body = await asyncio.to_thread(server.get, "/healthz")
        assert (status, json.loads(body)) == (200, {"works": True, "why": ""})
        await asyncio.to_thread(become_writable)
        await eventually(lambda: server.get("/readyz")[0] == 200, within=2 * PACE.beat + SLACK)
        assert client.is_open
        newcomer = await connect(server, database.user("u2"))
        await newcomer.expect("ready")

    run(main())
