"""Memory of an idle socket: what many sockets add to a fresh server process, divided by their number."""

import asyncio
import statistics
from collections.abc import Sequence

from benchmarks import client
from benchmarks.procfs import memory_kib
from benchmarks.ratios import Ratio
from benchmarks.report import Table
from benchmarks.routes import BARE, VARIANTS
from benchmarks.stage import Kind, Stage
from tests.support.databases import Database
from tests.support.servers import Server

AIM = 1.15
FIGURES = ("Rss", "Pss")  # resident and proportional memory


def memory(stage: Stage, kinds: Sequence[Kind]) -> Table:
    columns = ["server", "variant", "KiB a socket (RSS)", "of bare", "KiB a socket (PSS)", "of bare", "aim"]
    table = Table(f"Memory of an idle socket ({stage.sizes.memory_sockets:,} of them)", columns)
    for kind in kinds:
        results: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
        for _ in range(stage.sizes.memory_rounds):
            for variant, figures in _round(stage, kind).items():
                results[variant].append(figures)
        for variant, rounds in results.items():
            row = [kind, variant]
            for name in FIGURES:
                values = [figures[name] for figures in rounds]
                row += [f"{statistics.median(values):.1f}", _ratio(results, variant, name)]
            table.rows.append([*row, "" if variant == BARE else f"<= {AIM}"])
            table.raw.append({"server": kind, "variant": variant, "kib": rounds})
    return table


def _ratio(results: dict[str, list[dict[str, float]]], variant: str, name: str) -> str:
    if variant == BARE:
        return ""
    return str(Ratio.of(*([figures[name] for figures in results[key]] for key in (variant, BARE))))


def _round(stage: Stage, kind: Kind) -> dict[str, dict[str, float]]:
    """KiB a socket, by variant and figure. The variants are measured one after the other, each in its own server."""
    with stage.database("postgresql") as database:
        servers = {variant: stage.server(database, kind) for variant in VARIANTS}
        with stage.servers(*servers.values()):
            return {
                variant: asyncio.run(_kib_per_socket(stage, server, database, VARIANTS[variant]))
                for variant, server in servers.items()
            }


async def _kib_per_socket(stage: Stage, server: Server, database: Database, path: str) -> dict[str, float]:
    """Open idle sockets on the server; return KiB a socket, by figure."""
    sizes, cookies = stage.sizes, stage.cookies(database)
    url = server.ws_url + path
    # The first sockets import modules and fill caches. That memory stays, so it is not counted.
    await client.close_all(await client.connect_many(url, cookies, sizes.memory_sockets // 10))
    await asyncio.sleep(sizes.settle)
    before = memory_kib(server.pid)
    sockets = await client.connect_many(url, cookies, sizes.memory_sockets)
    await asyncio.sleep(sizes.settle)
    after = memory_kib(server.pid)
    lost = sum(socket.code is not None for socket in sockets)
    if lost:
        raise RuntimeError(f"{lost} of {len(sockets)} idle sockets were closed before the memory was read.")
    await client.close_all(sockets)
    return {name: (after[name] - before[name]) / len(sockets) for name in FIGURES}
