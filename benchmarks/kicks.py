"""From a staff member's POST to the close frame of the user's client: on the same node, another, and with no bus."""

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
from connections.policy.states import FAREWELLS, CloseReason
from tests.support.databases import Database, TestUser
from tests.support.servers import Server, free_port

KICK_SECONDS = 15.0  # the beat is 2 s: whoever is open after this was not kicked
BEAT_SECONDS = 2.0
ACTIONS = {"close": CloseReason.CLOSED_BY_STAFF, "reset": CloseReason.RESET}


@dataclass(frozen=True)
class Place:
    name: str
    staff_node: Server
    """The node that receives the POST."""
    socket_node: Server
    """The node that has the user's socket."""
    concurrency: int = 1


def kicks(stage: Stage, kind: Kind) -> Table:
    sizes = stage.sizes
    columns = ["action", "where", "kicks", "p50 ms", "p99 ms", "slowest ms", "failed"]
    table = Table(f"Kick latency ({kind}, PostgreSQL, {sizes.idle_sockets:,} idle sockets on each node)", columns)
    # Nobody listens at the other bus: its every call fails at once, and only the beat is left.
    with stage.database("postgresql") as rung, stage.database("postgresql") as away:
        here, there = _nodes(stage, rung, kind, stage.valkey())
        quiet, silent = _nodes(stage, away, kind, f"redis://127.0.0.1:{free_port()}")
        with stage.servers(here, there, quiet, silent):
            asyncio.run(
                _measure(table, stage, rung, [Place("same node", here, here), Place("other node", here, there)])
            )
            places = [
                Place("same node, no bus", quiet, quiet, sizes.no_bus_concurrency),
                Place("other node, no bus", quiet, silent, sizes.no_bus_concurrency),
            ]
            asyncio.run(_measure(table, stage, away, places))
    return table


def _nodes(stage: Stage, database: Database, kind: Kind, bus: str) -> list[Server]:
    names = ("bench-1", "bench-2")
    return [stage.server(database, kind, bus=bus, beat_seconds=BEAT_SECONDS, node_name=name) for name in names]


async def _measure(table: Table, stage: Stage, database: Database, places: Sequence[Place]) -> None:
    sizes = stage.sizes
    users = [database.user(f"bench{number}") for number in range(sizes.users)]
    # A reset closes all that its user holds, so the idle sockets are those of others.
    apart = sizes.users // 10
    idle = [user.cookie for user in users[:apart]]
    for server in {place.socket_node.port: place.socket_node for place in places}.values():
        await client.connect_many(server.ws_url + CHAT, idle, sizes.idle_sockets)
    await asyncio.sleep(sizes.settle)
    kicked = itertools.cycle(users[apart:])
    for place in places:
        for action in ACTIONS:
            found = await _kicked(database, place, action, kicked, sizes.kicks)
            _row(table, place, action, found)


def _row(table: Table, place: Place, action: str, found: list[float | None]) -> None:
    took = [each * 1000 for each in found if each is not None]
    figures = [f"{percentile(took, percent):,.1f}" for percent in (50, 99, 100)] if took else ["", "", ""]
    table.rows.append([action, place.name, str(len(found)), *figures, str(len(found) - len(took))])
    table.raw.append({"action": action, "where": place.name, "ms": took})


async def _kicked(
    database: Database, place: Place, action: str, users: Iterator[TestUser], count: int
) -> list[float | None]:
    """Seconds of each kick; None for one that failed."""
    found: list[float | None] = []
    numbers = iter(range(count))
    staff = database.user("lead")

    async def lane() -> None:
        for _ in numbers:
            found.append(await _kick(place, action, next(users), staff))  # noqa: PERF401

    async with asyncio.TaskGroup() as group:
        for _ in range(place.concurrency):
            group.create_task(lane())
    return found


async def _kick(place: Place, action: str, user: TestUser, staff: TestUser) -> float | None:
    socket = await client.connect(place.socket_node.ws_url + CHAT, user.cookie, client.Socket)
    try:
        async with asyncio.timeout(KICK_SECONDS):
            await socket.ready.wait()
            # Lanes that wait for the same beat would otherwise all post right after it.
            await asyncio.sleep(random.uniform(0, BEAT_SECONDS) if place.concurrency > 1 else 0)
            staff_client = await StaffClient.open(place.staff_node, staff)
            path, fields = _request(action, user, socket.greeting["manager"])
            posted = await staff_client.post(path, **fields)
            await socket.closed.wait()
    except TimeoutError:
        await socket.close()
        return None
    as_asked = posted.status == 200 and socket.code == FAREWELLS[ACTIONS[action]].code
    return socket.closed_at - posted.sent_at if as_asked else None


def _request(action: str, user: TestUser, manager: str) -> tuple[str, dict[str, str]]:
    if action == "close":
        return f"/console/managers/{manager}/close/", {"reason": "a benchmark"}
    return f"/console/users/{user.id}/reset/", {"reason": "a benchmark", "confirm": user.name}
