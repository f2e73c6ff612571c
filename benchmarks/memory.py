"""Memory of an idle socket, each side in a fresh process: what so many sockets add, divided by their number."""

import asyncio
import statistics
from collections.abc import Sequence

from benchmarks import client
from benchmarks.procfs import rollup
from benchmarks.ratios import Ratio
from benchmarks.report import Table
from benchmarks.routes import BARE, SIDES
from benchmarks.stage import Kind, Stage
from tests.support.databases import Database
from tests.support.servers import Server

AIM = 1.15
FIGURES = ("Rss", "Pss")


def memory(stage: Stage, kinds: Sequence[Kind]) -> Table:
    columns = ["server", "side", "KiB a socket (RSS)", "of bare", "KiB a socket (PSS)", "of bare", "aim"]
    table = Table(f"Memory of an idle socket ({stage.sizes.memory_sockets:,} of them)", columns)
    for kind in kinds:
        found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(stage.sizes.memory_rounds):
            for side, figures in _round(stage, kind).items():
                found[side].append(figures)
        for side, rounds in found.items():
            row = [kind, side]
            for name in FIGURES:
                values = [found[name] for found in rounds]
                row += [f"{statistics.median(values):.1f}", _ratio(found, side, name)]
            table.rows.append([*row, "" if side == BARE else f"<= {AIM}"])
            table.raw.append({"server": kind, "side": side, "kib": rounds})
    return table


def _ratio(found: dict[str, list[dict[str, float]]], side: str, name: str) -> str:
    if side == BARE:
        return ""
    return str(Ratio.of(*([each[name] for each in found[which]] for which in (side, BARE))))


def _round(stage: Stage, kind: Kind) -> dict[str, dict[str, float]]:
    """Of each side, one after the other, each in a process of its own."""
    with stage.database("postgresql") as database:
        servers = {side: stage.server(database, kind) for side in SIDES}
        with stage.servers(*servers.values()):
            return {
                side: asyncio.run(_opened(stage, server, database, SIDES[side])) for side, server in servers.items()
            }


async def _opened(stage: Stage, server: Server, database: Database, path: str) -> dict[str, float]:
    """KiB a socket, by figure of the kernel's."""
    sizes, cookies = stage.sizes, stage.cookies(database)
    url = server.ws_url + path
    # What the first sockets load and cache stays, and is no other socket's.
    await client.close_all(await client.connect_many(url, cookies, sizes.memory_sockets // 10))
    await asyncio.sleep(sizes.settle)
    before = rollup(server.pid)
    sockets = await client.connect_many(url, cookies, sizes.memory_sockets)
    await asyncio.sleep(sizes.settle)
    after = rollup(server.pid)
    lost = sum(socket.code is not None for socket in sockets)
    if lost:
        raise RuntimeError(f"{lost} of {len(sockets)} idle sockets were closed meanwhile.")
    await client.close_all(sockets)
    return {name: (after[name] - before[name]) / len(sockets) for name in FIGURES}
