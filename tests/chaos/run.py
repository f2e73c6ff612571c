"""One chaos run: set up, faults, repair, wait until all agree, read everything. Judging is somebody else's."""

import asyncio
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.chaos import bounds, watch
from tests.chaos.cluster import Cluster, cluster
from tests.chaos.crowd import Crowd
from tests.chaos.faults import Faults
from tests.chaos.history import History
from tests.chaos.schedule import Plan, schedule
from tests.chaos.tabs import Tab
from tests.support.databases import Database
from tests.support.processes import manage_json

FILL_SECONDS = 20.0  # for all clients to be in at the beginning
REPAIR_SECONDS = 60.0  # for what is under way when the last fault has begun: a node that drains and starts again
LOOK_SECONDS = 0.3
STEADY_LOOKS = 4  # in a row that must agree
READ_SECONDS = 10.0

Say = Callable[[str], None]


async def run(seed: int, plan: Plan, say: Say) -> History:
    """Everything it starts has ended when it returns, or raises; its folder is gone."""
    history = History(seed, bounds.SOFT_LIMIT, bounds.BURST, faults=schedule(seed, plan))
    # A short name: PostgreSQL keeps a socket in it.
    with tempfile.TemporaryDirectory(prefix="rc-", ignore_cleanup_errors=True) as folder:
        async with cluster(history, Path(folder)) as made:
            rng = random.Random(seed)
            users = await asyncio.to_thread(made.users, plan.users)
            await asyncio.to_thread(watch.note_admissions, made.database)
            crowd = Crowd(made, users, rng)
            sampler = watch.Sampler(made.database, history)
            watching = asyncio.create_task(crowd.watch_itself(), name="lag")
            try:
                sampler.start()
                await _play(made, crowd, plan, rng, say)
                await _agree(made, crowd)
                await _read_again(crowd, made.database, history)
                sampler.stop()
                await _list(made)
                await asyncio.to_thread(watch.read_rows, made.database, history)
            except Exception as error:
                error.add_note(
                    "\n".join(f"{name}: {node.server.output()[-3000:]}" for name, node in made.nodes.items())
                )
                raise
            finally:
                watching.cancel()
                sampler.stop()
                await crowd.end()
                history.logs = {name: node.server.output() for name, node in made.nodes.items()}
    return history


async def _play(made: Cluster, crowd: Crowd, plan: Plan, rng: random.Random, say: Say) -> None:
    crowd.fill(plan.clients)
    async with asyncio.timeout(FILL_SECONDS):
        while any(tab.wants and (tab.socket is None or not tab.socket.connection.open) for tab in crowd.tabs):
            await asyncio.sleep(LOOK_SECONDS)
    say(f"{len(crowd.tabs)} clients of {len(crowd.people)} users are in; {len(made.history.faults)} faults follow.")
    busy = [asyncio.create_task(life) for life in (crowd.talk(), crowd.come_and_go(plan.clients))]
    try:
        async with asyncio.timeout(plan.seconds + REPAIR_SECONDS):
            await Faults(made, crowd, rng).carry_out(made.history.faults, plan.seconds)
    finally:
        for task in busy:
            task.cancel()
        for ended in await asyncio.gather(*busy, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
    crowd.check()
    crowd.calm_down()
    made.note_crashes()
    made.history.agreement.healed = time.time()


async def _agree(made: Cluster, crowd: Crowd) -> None:
    """Waits until held records are the open sockets, several looks in a row, and nothing is under way any more."""
    found = made.history.agreement
    deadline = time.monotonic() + bounds.AGREED + bounds.MARGIN
    steady = 0
    since = 0.0
    while steady < STEADY_LOOKS and time.monotonic() < deadline:
        looked = time.time()
        found.held = await asyncio.to_thread(watch.held, made.database)
        found.sockets = {
            tab.socket.connection.manager for tab in crowd.tabs if tab.socket is not None and tab.socket.connection.open
        }
        found.waiting = sum(tab.wants and (tab.socket is None or not tab.socket.connection.open) for tab in crowd.tabs)
        found.runs_open = await asyncio.to_thread(watch.runs_open, made.database)
        agree = found.held == found.sockets and not found.waiting and not found.runs_open
        since = since if agree and steady else looked
        steady = steady + 1 if agree else 0
        await asyncio.sleep(LOOK_SECONDS)
    found.at = since if steady >= STEADY_LOOKS else None
    crowd.check()


async def _read_again(crowd: Crowd, database: Database, history: History) -> None:
    """One tab of each user reads all its conversations from the beginning."""
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
            tab.socket.delivery.ask(conversation, 0)
    with suppress(TimeoutError):
        async with asyncio.timeout(READ_SECONDS):
            while any(tab.resumes.keys() < tab.person.conversations for tab in readers.values()):
                await asyncio.sleep(LOOK_SECONDS)
    for tab in readers.values():
        for conversation in tab.person.conversations:
            history.agreement.read[conversation] = tab.resumes.get(conversation, [])


async def _list(made: Cluster) -> None:
    listed, nodes = await asyncio.gather(
        *(asyncio.to_thread(manage_json, command, db=made.database) for command in ("list_managers", "list_nodes"))
    )
    watch.note_listed(listed, nodes, made.history)
