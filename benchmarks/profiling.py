"""Profile a server under load, bare and wrapped: py-spy samples which code holds the GIL.

The figures are milliseconds of the GIL for one handshake or echo.
"""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks import client
from benchmarks.report import Table
from benchmarks.routes import BARE, VARIANTS, WRAPPED
from benchmarks.stage import Kind, Stage, Vendor
from benchmarks.throughput import Load
from tests.support.databases import Database
from tests.support.processes import ROOT
from tests.support.servers import Server

RESULTS = ROOT / "benchmarks" / "results"
LOADS: dict[str, Load] = {"handshakes": client.handshakes, "echoes": client.echoes}
RATE = 200  # samples a second
SECONDS = 10  # of sampling
SHOWN = 25  # rows of a table
# Samples in these packages are charged to the package that called them.
CHARGED_TO_CALLER = {*sys.stdlib_module_names, "asgiref"}

# Functions of these files are on every stack of the server, so the table by function omits them.
ON_EVERY_STACK = ("connections/management/", "connections/server/")


def profile(stage: Stage, what: str, kind: Kind, vendor: Vendor) -> list[Table]:
    """Two tables: by package, and by function of `connections`. Raw stacks for a flame graph go to `RESULTS`."""
    RESULTS.mkdir(exist_ok=True)
    by_package: dict[str, Counter[str]] = {}
    by_function: dict[str, Counter[str]] = {}
    done: dict[str, int] = {}
    with stage.database(vendor) as database:
        for variant in (BARE, WRAPPED):
            stacks = RESULTS / f"{what}-{kind}-{vendor}-{variant}.stacks"
            server = stage.server(database, kind)
            with stage.servers(server):
                done[variant] = asyncio.run(_sample(stage, server, database, what, variant, stacks))
            by_package[variant], by_function[variant] = Counter(), Counter()
            for frames, count in _read(stacks):
                by_package[variant]["all"] += count
                by_package[variant][_owner(frames)] += count
                ours = {
                    frame
                    for frame in frames
                    if frame.startswith("connections/") and not frame.startswith(ON_EVERY_STACK)
                }
                by_function[variant].update(dict.fromkeys(ours, count))
    where = f"{what} ({kind}, {vendor}), ms of the GIL for each"
    return [
        _table(f"By package: {where}", by_package, done),
        _table(f"By function of connections, with all it calls: {where}", by_function, done),
    ]


async def _sample(stage: Stage, server: Server, database: Database, what: str, variant: str, stacks: Path) -> int:
    """Sample the server under load; return the number of handshakes or echoes done meanwhile."""
    url, cookies = server.ws_url + VARIANTS[variant], stage.cookies(database)
    await client.close_all(await client.connect_many(url, cookies, len(cookies)))
    spy = Path(sys.executable).with_name("py-spy")
    command = [spy, "record", "--pid", str(server.pid), "--gil", "--rate", str(RATE), "--duration", str(SECONDS)]
    sampling = await asyncio.create_subprocess_exec(
        *map(str, [*command, "--format", "raw", "--function", "--output", stacks]), stdout=subprocess.DEVNULL
    )
    tally = await LOADS[what](url, cookies, concurrency=stage.sizes.concurrency, warmup=1, window=SECONDS)
    if await sampling.wait():
        raise RuntimeError(
            f"py-spy exited with {sampling.returncode}. It may lack the permission to read other processes."
        )
    return tally.done


def _read(stacks: Path) -> Iterator[tuple[list[str], int]]:
    """Each stack and its number of samples. The outermost frame is first, as `connections/records/writer.py:commit`."""
    for line in stacks.read_text().splitlines():
        names, _, count = line.rpartition(" ")
        yield [_frame(name) for name in names.split(";")], int(count)


def _frame(name: str) -> str:
    """`connections/records/writer.py:commit` from `commit (connections/records/writer.py)`."""
    function, _, file = name.rpartition(" (")
    return f"{file.rstrip(')')}:{function}"


def _owner(frames: list[str]) -> str:
    """The package that a sample is charged to: the innermost one that is not in `CHARGED_TO_CALLER`."""
    packages = [frame.split(":")[0].split("/")[0].removesuffix(".py") for frame in frames]
    return next((package for package in reversed(packages) if package not in CHARGED_TO_CALLER), packages[-1])


def _table(title: str, samples: dict[str, Counter[str]], done: dict[str, int]) -> Table:
    table = Table(title, ["where", BARE, WRAPPED, "more"])

    def milliseconds(variant: str, count: int) -> float:
        return count / RATE * 1000 / max(1, done[variant])

    names = sorted(
        samples[BARE].keys() | samples[WRAPPED].keys(),
        key=lambda name: -max(samples[BARE][name], samples[WRAPPED][name]),
    )
    for name in names[:SHOWN]:
        values = milliseconds(BARE, samples[BARE][name]), milliseconds(WRAPPED, samples[WRAPPED][name])
        table.rows.append([name, *(f"{value:.3f}" for value in values), f"{values[1] - values[0]:+.3f}"])
    return table
