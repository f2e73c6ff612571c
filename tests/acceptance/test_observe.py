"""In `observe` mode the engine closes and refuses nothing; it records, logs and diagnoses. Staff may still act."""

import asyncio
import json
from collections import Counter

from tests.support.clients import connect, eventually, run
from tests.support.databases import Database
from tests.support.processes import manage_json
from tests.support.scenes import AUTOMATIC, Serve, close_reasons, records, wait_until_ready

DEVICE = "0f0e0d0c-0b0a-4908-8706-050403020100"
SETTINGS = AUTOMATIC.settings(enforce="observe", soft_limit=2, burst=1, connect_rate="3/60s")


def test_observe_mode_only_records_and_staff_may_still_act(serve: Serve, database: Database) -> None:
    server, user = serve(database, ready="/readyz", **SETTINGS), database.user("u1")

    def said() -> Counter[tuple[str, str]]:
        """Count the log's events of actions that the engine would have taken, by event and reason."""
        lines = [json.loads(line) for line in server.output().splitlines() if line.startswith("{")]
        would = [line for line in lines if line["event"].startswith("would_")]
        return Counter((line["event"], line.get("reason") or line.get("cause") or "") for line in would)

    async def main() -> None:
        clients = [await connect(server, user, device=DEVICE, attempt=number) for number in (2, 3, 1)]
        clients += [await connect(server, user) for _ in range(2)]
        clients += [await connect(server, user, answers_pings=False)]
        await wait_until_ready(clients)
        await eventually(lambda: said()["would_close", "unresponsive"] == 1, within=AUTOMATIC.silent_freed)
        await asyncio.sleep(AUTOMATIC.back_at_limit)  # longer than a sweep and a cleanup take in enforcing mode
        assert said() == {
            ("would_close", "replaced"): 1,  # replaced by the connect with attempt 3
            ("would_refuse", "replaced"): 1,  # the connect with attempt 1
            ("would_refuse", "rate_limited"): 3,
            ("would_recover", ""): 3,  # each connect that makes the user exceed the limit of 2
            ("would_close", "evicted"): 3,  # each of the last three connects finds the user at the ceiling of 3
            ("would_close", "unresponsive"): 1,
        }
        assert all(client.is_open for client in clients)
        assert [record.state for record in records(database, user)] == ["live"] * 6
        assert database.query("SELECT count(*) FROM connections_recoveryrun") == [(0,)]

        diagnose = ("diagnose_user", "u1", "--no-roll-call")
        verdict = await asyncio.to_thread(lambda: manage_json(*diagnose, db=database, **SETTINGS))
        found = {cause["code"]: cause["count"] for cause in verdict["causes"]}
        assert (found["unresponsive"], "over_limit" in found) == (1, True), verdict
        assert (verdict["counted"], verdict["suggestion"]) == (6, "recover")

        reset = ("recover_user", "u1", "--reset", "--reason", "a ticket")
        await asyncio.to_thread(lambda: manage_json(*reset, db=database, **SETTINGS))
        assert [await client.closed() for client in clients] == [4411] * 6
        assert close_reasons(database, user) == {"reset": 6}

    run(main())
