"""The load client's own limit: handshakes and echoes a second against a server that does next to nothing."""

import asyncio
import statistics
import subprocess
import sys
import time

from benchmarks import client
from benchmarks.report import Table
from benchmarks.stage import Stage
from tests.support.processes import environment
from tests.support.servers import free_port

START_SECONDS = 10.0


def client_limit(stage: Stage) -> Table:
    table = Table("The load client's own limit", ["what", "a second", "client busy"])
    port = free_port()
    null_server = subprocess.Popen([sys.executable, "-m", "benchmarks.null_server", str(port)], **environment({}))
    try:
        asyncio.run(_rounds(table, stage, f"ws://127.0.0.1:{port}/"))
    finally:
        null_server.kill()
        null_server.wait(10)
    return table


async def _rounds(table: Table, stage: Stage, url: str) -> None:
    await _wait_until_listening(url)
    sizes = stage.sizes
    for what, load in (("handshakes", client.handshakes), ("echoes", client.echoes)):
        tallies = [
            await load(url, ["sessionid=none"], concurrency=sizes.concurrency, warmup=sizes.warmup, window=sizes.window)
            for _ in range(sizes.rounds)
        ]
        rates = [tally.rate for tally in tallies]
        busy = max(tally.busy for tally in tallies)
        table.rows.append([what, f"{statistics.median(rates):,.0f}", f"{busy:.0%}"])
        table.raw.append({"what": what, "rates": rates})


async def _wait_until_listening(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            await (await client.connect(url, "", client.Socket)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            return
