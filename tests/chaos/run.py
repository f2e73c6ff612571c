"""One chaos run: set up, faults, repair, wait until records and sockets agree, read all rows. `judges` judges it."""

import asyncio
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.chaos import bounds, watch
from tests.chaos.cluster import Cluster, running_cluster
from tests.chaos.crowd import Crowd
from tests.chaos.faults import Faults
from tests.chaos.history import History
from tests.chaos.schedule import Plan, schedule
from tests.chaos.tabs import Tab
from tests.support.databases import Database
from tests.support.processes import manage_json

FILL_SECONDS = 20.0  # for all clients to be admitted at the beginning
REPAIR_SECONDS = 60.0  # for faults that still go on after the last one began, such as a drain and a start of a node
LOOK_SECONDS = 0.3
STEADY_LOOKS = 4  # so many looks in a row must find that records and sockets agree
READ_SECONDS = 10.0

Say = Callable[[str], None]


async def run(seed: int, plan: Plan, say: Say) -> History:
    """Carry out a run and return its history. At the end, also after an exception, all processes that it started have
    ended and its folder is gone.
    """
    history = History(seed, bounds.SOFT_LIMIT, bounds.BURST, faults=schedule(seed, plan))
    # The prefix is short because PostgreSQL keeps a Unix socket in the folder.
    with tempfile.TemporaryDirectory(prefix="rc-", ignore_cleanup_errors=True) as folder:
        async with running_cluster(history, Path(folder)) as cluster:
            rng = random.Random(seed)
            users = await asyncio.to_thread(cluster.users, plan.users)
            await asyncio.to_thread(watch.note_admissions, cluster.database)
            crowd = Crowd(cluster, users, rng)
            sampler = watch.Sampler(cluster.database, history)
            watching = asyncio.create_task(crowd.record_lag(), name="lag")
            try:
                sampler.start()
                await _play(cluster, crowd, plan, rng, say)
                await _agree(cluster, crowd)
                await _read_again(crowd, cluster.database, history)
                sampler.stop()
                await _list(cluster)
                await asyncio.to_thread(watch.read_rows, cluster.database, history)
            except Exception as error:
                error.add_note(
                    "\n".join(f"{name}: {node.server.output()[-3000:]}" for name, node in cluster.nodes.items())
                )
                raise
            finally:
                watching.cancel()
                sampler.stop()
                await crowd.end()
                history.logs = {name: node.server.output() for name, node in cluster.nodes.items()}
    return history


async def _play(cluster: Cluster, crowd: Crowd, plan: Plan, rng: random.Random, say: Say) -> None:
    crowd.fill(plan.clients)
    async with asyncio.timeout(FILL_SECONDS):
        while any(
            tab.wants_connection and (tab.socket is None or not tab.socket.connection.open) for tab in crowd.tabs
        ):
            await asyncio.sleep(LOOK_SECONDS)
    say(f"{len(crowd.tabs)} clients of {len(crowd.people)} users are in; {len(cluster.history.faults)} faults follow.")
    busy = [asyncio.create_task(life) for life in (crowd.keep_chatting(), crowd.come_and_go(plan.clients))]
    try:
        async with asyncio.timeout(plan.seconds + REPAIR_SECONDS):
            await Faults(cluster, crowd, rng).carry_out(cluster.history.faults, plan.seconds)
    finally:
        for task in busy:
            task.cancel()
        for ended in await asyncio.gather(*busy, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
    crowd.raise_failures()
    crowd.stop_use_here()
    cluster.note_crashes()
    cluster.history.agreement.healed = time.time()


async def _agree(cluster: Cluster, crowd: Crowd) -> None:
    """Wait until, in several looks in a row, the held records are exactly those of the open sockets, no run is open and
    no tab waits for a connection.
    """
    found = cluster.history.agreement
    deadline = time.monotonic() + bounds.AGREED + bounds.MARGIN
    steady = 0
    since = 0.0
    while steady < STEADY_LOOKS and time.monotonic() < deadline:
        looked = time.time()
        found.held = await asyncio.to_thread(watch.held, cluster.database)
        found.sockets = {
            tab.socket.connection.manager for tab in crowd.tabs if tab.socket is not None and tab.socket.connection.open
        }
        found.waiting = sum(
            tab.wants_connection and (tab.socket is None or not tab.socket.connection.open) for tab in crowd.tabs
        )
        found.runs_open = await asyncio.to_thread(watch.runs_open, cluster.database)
        agree = found.held == found.sockets and not found.waiting and not found.runs_open
        since = since if agree and steady else looked
        steady = steady + 1 if agree else 0
        await asyncio.sleep(LOOK_SECONDS)
    found.at = since if steady >= STEADY_LOOKS else None
    crowd.raise_failures()


async def _read_again(crowd: Crowd, database: Database, history: History) -> None:
    """Have one tab of each user resume all its conversations from the beginning, and record what it was sent."""
    readers: dict[str, Tab] = {}
    for tab in crowd.tabs:
        if tab.socket is not None and tab.socket.connection.open:
            readers.setdefault(tab.person.user.name, tab)
    await asyncio.sleep(bounds.MARGIN)  # agents may still be writing
    history.agreement.stored = await asyncio.to_thread(watch.stored, database)
    for tab in readers.values():
        tab.resumes.clear()
        for conversation in tab.person.conversations:
            assert tab.socket is not None
            tab.socket.delivery.resume(conversation, 0)
    with suppress(TimeoutError):
        async with asyncio.timeout(READ_SECONDS):
            while any(tab.resumes.keys() < tab.person.conversations for tab in readers.values()):
                await asyncio.sleep(LOOK_SECONDS)
    for tab in readers.values():
        for conversation in tab.person.conversations:
            history.agreement.read[conversation] = tab.resumes.get(conversation, [])


async def _list(cluster: Cluster) -> None:
    listed, nodes = await asyncio.gather(
        *(asyncio.to_thread(manage_json, command, db=cluster.database) for command in ("list_managers", "list_nodes"))
    )
    watch.note_listed(listed, nodes, cluster.history)
