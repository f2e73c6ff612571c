"""Handshakes and echoes a second, by variant. All variants share one server process, consumer and session auth."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

from benchmarks import client
from benchmarks.client import Tally
from benchmarks.procfs import cpu_seconds
from benchmarks.ratios import Ratio
from benchmarks.report import Table
from benchmarks.routes import BARE, POOL, VARIANTS
from benchmarks.stage import Kind, Stage, Vendor
from tests.support.databases import Database
from tests.support.servers import Server

HANDSHAKES_AIM, ECHOES_AIM = 0.85, 0.95
RELEASE_SECONDS = 20.0  # until the records of a finished round must be released

Load = Callable[..., Awaitable[Tally]]


def handshakes(stage: Stage, kinds: Sequence[Kind], vendors: Sequence[Vendor]) -> Table:
    table = _table("Handshakes a second")
    for vendor in vendors:
        for kind in kinds:
            _measure(table, stage, kind, vendor, client.handshakes, HANDSHAKES_AIM)
    return table


def echoes(stage: Stage, kinds: Sequence[Kind], vendors: Sequence[Vendor]) -> Table:
    table = _table("Echoes a second")
    for vendor in vendors:
        for kind in kinds:
            _measure(table, stage, kind, vendor, client.echoes, ECHOES_AIM)
    return table


def _table(title: str) -> Table:
    return Table(
        title,
        ["server", "database", "variant", "a second", "of bare", "aim", "server CPU ms each", "client busy", "failed"],
    )


def _measure(table: Table, stage: Stage, kind: Kind, vendor: Vendor, load: Load, aim: float) -> None:
    with stage.database(vendor) as database:
        server = stage.server(database, kind)
        with stage.servers(server):
            results = asyncio.run(_rounds(stage, server, database, load))
    bare = [tally.rate for tally in results[BARE]]
    for variant, tallies in results.items():
        rates = [tally.rate for tally in tallies]
        compared = variant != BARE
        table.rows.append(
            [
                kind,
                vendor,
                variant,
                f"{statistics.median(rates):,.0f}",
                str(Ratio.of(rates, bare)) if compared else "",
                f">= {aim}" if compared else "",
                f"{statistics.median(tally.server_cpu / tally.rate * 1000 for tally in tallies):.2f}",
                f"{max(tally.busy for tally in tallies):.0%}",
                str(sum(tally.failed.total() for tally in tallies)),
            ]
        )
        measured = [
            {"rate": tally.rate, "server_cpu": tally.server_cpu, "failed": dict(tally.failed)} for tally in tallies
        ]
        table.raw.append({"server": kind, "database": vendor, "variant": variant, "rounds": measured})


async def _rounds(stage: Stage, server: Server, database: Database, load: Load) -> dict[str, list[Tally]]:
    sizes, cookies, url = stage.sizes, stage.cookies(database), server.ws_url
    results: dict[str, list[Tally]] = {variant: [] for variant in VARIANTS}
    for path in VARIANTS.values():  # creates gates, imports modules, fills caches
        await client.close_all(await client.connect_many(url + path, cookies, len(cookies)))
    for _ in range(sizes.rounds):
        for variant, path in VARIANTS.items():
            await asyncio.to_thread(_wait_until_released, database)
            before, cpu, began = _records(database), cpu_seconds(server.pid), time.monotonic()
            tally = await load(
                url + path, cookies, concurrency=sizes.concurrency, warmup=sizes.warmup, window=sizes.window
            )
            tally.server_cpu = (cpu_seconds(server.pid) - cpu) / (time.monotonic() - began)
            results[variant].append(tally)
            if (variant == BARE) != (_records(database) == before):
                raise RuntimeError(
                    f"Only wrapped variants should create manager records: check the route of {variant!r} in apps.py."
                )
    return results


def _records(database: Database) -> int:
    return int(database.query("SELECT count(*) FROM connections_managerrecord WHERE pool = ?", [POOL])[0][0])


def _wait_until_released(database: Database) -> None:
    """Wait until all records of the last round are closed."""
    deadline = time.monotonic() + RELEASE_SECONDS
    query = "SELECT count(*) FROM connections_managerrecord WHERE pool = ? AND state <> 'closed'"
    while held := database.query(query, [POOL])[0][0]:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{held} records are still held {RELEASE_SECONDS:.0f} s after their sockets closed.")
        time.sleep(0.05)  # polled: the server closes records in its own time
