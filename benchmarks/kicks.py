"""Kick latency: the time from a staff member's POST to the close frame at the user's client.

The POST goes to the socket's own node or to another one, with a bus and without.
"""

import asyncio
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks import client
from benchmarks.ratios import percentile
from benchmarks.report import Table
from benchmarks.routes import CHAT
from benchmarks.staff_client import StaffClient
from benchmarks.stage import Kind, Stage
from connections.policy.states import CLOSING_FRAMES, CloseReason
from tests.support.databases import Database, TestUser
from tests.support.servers import Server, free_port

KICK_SECONDS = 15.0  # a kick that takes longer has failed; without a bus, it takes up to a beat
BEAT_SECONDS = 2.0
ACTIONS = {"close": CloseReason.CLOSED_BY_STAFF, "reset": CloseReason.RESET}


@dataclass(frozen=True)
class Case:
    """One case of a kick: the node to which the staff member posts, and the node that has the user's socket."""

    name: str
    staff_node: Server
    socket_node: Server
    concurrency: int = 1


def kicks(stage: Stage, kind: Kind) -> Table:
    sizes = stage.sizes
    columns = ["action", "where", "kicks", "p50 ms", "p99 ms", "slowest ms", "failed"]
    table = Table(f"Kick latency ({kind}, PostgreSQL, {sizes.idle_sockets:,} idle sockets on each node)", columns)
    # "No bus" is an address where nothing listens: every call fails at once, and nodes learn of a kick by their beat.
    with stage.database("postgresql") as with_bus, stage.database("postgresql") as without_bus:
        first, second = _nodes(stage, with_bus, kind, stage.valkey())
        third, fourth = _nodes(stage, without_bus, kind, f"redis://127.0.0.1:{free_port()}")
        with stage.servers(first, second, third, fourth):
            asyncio.run(
                _measure(table, stage, with_bus, [Case("same node", first, first), Case("other node", first, second)])
            )
            cases = [
                Case("same node, no bus", third, third, sizes.no_bus_concurrency),
                Case("other node, no bus", third, fourth, sizes.no_bus_concurrency),
            ]
            asyncio.run(_measure(table, stage, without_bus, cases))
    return table


def _nodes(stage: Stage, database: Database, kind: Kind, bus: str) -> list[Server]:
    names = ("bench-1", "bench-2")
    return [stage.server(database, kind, bus=bus, beat_seconds=BEAT_SECONDS, node_name=name) for name in names]


async def _measure(table: Table, stage: Stage, database: Database, cases: Sequence[Case]) -> None:
    sizes = stage.sizes
    users = [database.user(f"bench{number}") for number in range(sizes.users)]
    # A reset closes all sockets of its user, so a tenth of the users have the idle sockets and the others are kicked.
    split = sizes.users // 10
    idle_cookies = [user.cookie for user in users[:split]]
    for server in {case.socket_node.port: case.socket_node for case in cases}.values():
        await client.connect_many(server.ws_url + CHAT, idle_cookies, sizes.idle_sockets)
    await asyncio.sleep(sizes.settle)
    kicked_users = itertools.cycle(users[split:])
    for case in cases:
        for action in ACTIONS:
            latencies = await _time_kicks(database, case, action, kicked_users, sizes.kicks)
            _add_row(table, case, action, latencies)


def _add_row(table: Table, case: Case, action: str, latencies: list[float | None]) -> None:
    took = [latency * 1000 for latency in latencies if latency is not None]
    figures = [f"{percentile(took, percent):,.1f}" for percent in (50, 99, 100)] if took else ["", "", ""]
    table.rows.append([action, case.name, str(len(latencies)), *figures, str(len(latencies) - len(took))])
    table.raw.append({"action": action, "where": case.name, "ms": took})


async def _time_kicks(
    database: Database, case: Case, action: str, users: Iterator[TestUser], count: int
) -> list[float | None]:
    """Latency of each kick in seconds, or None for a kick that failed."""
    latencies: list[float | None] = []
    numbers = iter(range(count))
    staff = database.user("lead")

    async def worker() -> None:
        for _ in numbers:
            latencies.append(await _kick(case, action, next(users), staff))  # noqa: PERF401 - the list is shared by the workers

    async with asyncio.TaskGroup() as workers:
        for _ in range(case.concurrency):
            workers.create_task(worker())
    return latencies


async def _kick(case: Case, action: str, user: TestUser, staff: TestUser) -> float | None:
    socket = await client.connect(case.socket_node.ws_url + CHAT, user.cookie, client.Socket)
    try:
        async with asyncio.timeout(KICK_SECONDS):
            await socket.ready.wait()
            # Without this pause, workers that waited for the same beat would all post right after it.
            await asyncio.sleep(random.uniform(0, BEAT_SECONDS) if case.concurrency > 1 else 0)
            staff_client = await StaffClient.open(case.staff_node, staff)
            path, fields = _request(action, user, socket.greeting["manager"])
            result = await staff_client.post(path, **fields)
            await socket.closed.wait()
    except TimeoutError:
        await socket.close()
        return None
    succeeded = result.status == 200 and socket.code == CLOSING_FRAMES[ACTIONS[action]].code
    return socket.closed_at - result.sent_at if succeeded else None


def _request(action: str, user: TestUser, manager: str) -> tuple[str, dict[str, str]]:
    if action == "close":
        return f"/console/managers/{manager}/close/", {"reason": "a benchmark"}
    return f"/console/users/{user.id}/reset/", {"reason": "a benchmark", "confirm": user.name}
