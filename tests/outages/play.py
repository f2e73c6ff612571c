"""Play one scenario on a rig: living clients, newcomers before, during and after the fault, and what they noticed."""

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress

import psycopg

from tests.outages import bounds
from tests.outages.clients import ADMITTED, Attempt, Living, Newcomers, Visitor, knock
from tests.outages.rig import Rig
from tests.outages.scenario import Notice, Scenario
from tests.outages.watch import Watch
from tests.support.databases import TestUser

NORMAL_SECONDS = 2.0  # before the fault, in which the normal handshakes are timed
EVERY = 0.1  # between two handshakes of other users; one in so many comes to each node
TOUCHED_EVERY = 0.5
TOUCHED_TABS = 18  # below the soft limit, since the touched user has newcomers too
OTHER_TABS = 30  # of other users, which close at the same time
OPEN_AT_ONCE = 8
LOOK_SECONDS = 0.05
GIVE_UP_SECONDS = 25.0  # after the fault, if it is not whole by then


async def play(scenario: Scenario, rig: Rig, seconds: float, insistent: int | None = None) -> Notice:
    """Play it for so long. The rig's nodes have been started, and may be used for another scenario afterwards."""
    logging.getLogger("picows").setLevel(logging.WARNING)  # it logs each connection
    return await _Play(scenario, rig, seconds, scenario.insistent if insistent is None else insistent).run()


class _Play:
    def __init__(self, scenario: Scenario, rig: Rig, seconds: float, insistent: int) -> None:
        self.scenario = scenario
        self.rig = rig
        self.notice = Notice(scenario, seconds)
        nodes = rig.nodes[:1] if scenario.one_node_busy else rig.nodes
        self.others = Newcomers(nodes, rig.others)
        self.touched = Newcomers(nodes, [rig.ada])
        self.insistent = Newcomers(rig.nodes, rig.others)
        self.crowd = insistent
        self.living: list[Living] = []
        self.tabs: list[Visitor] = []
        self.leaving: list[asyncio.Task[None]] = []

    async def run(self) -> Notice:
        await asyncio.to_thread(self.rig.make_whole)
        talking: list[asyncio.Task[None]] = []
        async with Watch(self.rig.nodes) as watch:
            try:
                await self._open()
                talking = [asyncio.create_task(client.talk(), name="living") for client in self.living]
                await self._time_normal()
                await self._break(watch)
                await self._compare()
                self._note(watch)
            finally:
                await _end(talking)
                await asyncio.gather(*(client.leave() for client in [*self.living, *self.tabs]))
                await asyncio.gather(*self.leaving)
        return self.notice

    # The clients

    async def _open(self) -> None:
        places = [(user, node) for user in self.rig.bystanders for node in self.rig.nodes]
        self.living = await _all_in([(user, node, Living) for user, node in places])
        if self.scenario.touched_leave:
            # All on one node: if its writer took a round for them one by one, its lease would lapse.
            users = [self.rig.ada] * TOUCHED_TABS + self.rig.others[:OTHER_TABS]
            self.tabs = await _all_in([(user, self.rig.nodes[0], Visitor) for user in users])
        self.notice.living = len(self.living)

    async def _time_normal(self) -> None:
        """Time the handshakes of others with nothing wrong."""
        normal = Newcomers(self.rig.nodes, self.rig.others)
        async with _running(normal.come(EVERY)):
            await asyncio.sleep(NORMAL_SECONDS)
        await normal.gone()
        self.notice.normal += normal.attempts

    # The fault

    async def _break(self, watch: Watch) -> None:
        notice = self.notice
        come = [self.others.come(EVERY), self.touched.come(TOUCHED_EVERY)]
        notice.began = time.time()
        for seen in watch.seen.values():
            seen.lease_age, seen.unready_since, seen.why = 0.0, None, ""
        watch.lag = 0.0
        async with _running(*come, *(self.insistent.insist(number) for number in range(self.crowd))):
            async with self.scenario.fault(self.rig):
                notice.began = time.time()
                self.leaving = [asyncio.create_task(tab.leave(), name="leaving") for tab in self.tabs]
                await asyncio.sleep(notice.seconds)
            await self._until_answered()
            notice.ended = time.time()
            notice.dishonest = self._dishonest(watch)
            async with _running(self._note_agreed()):
                await self._until_whole(watch)
        notice.lag, notice.crowding = watch.lag, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        await asyncio.gather(self.others.gone(), self.touched.gone(), self.insistent.gone())
        self._sort_attempts()

    async def _until_answered(self) -> None:
        """Wait for our own first SELECT: from then on the database is there."""
        while True:
            with suppress(psycopg.OperationalError):
                await asyncio.to_thread(self.rig.database.query, "SELECT 1")
                return
            await asyncio.sleep(0.02)

    async def _note_agreed(self) -> None:
        """Note when the records from before the fault's end are exactly those of open sockets."""
        while True:
            clients = [*self.living, *self.tabs, *self._visitors()]
            if not await asyncio.to_thread(self.rig.stale, self.notice.ended, clients):
                self.notice.agreed = time.time() - self.notice.ended
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _until_whole(self, watch: Watch) -> None:
        notice = self.notice
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < deadline:
            admitted = [a.ended for a in self._attempts() if a.outcome == ADMITTED and a.ended >= notice.ended]
            notice.first_admission = min(admitted) - notice.ended if admitted else None
            ready = [seen.ready_since(notice.ended) for seen in watch.seen.values()]
            notice.ready_again = max(at or 0 for at in ready) - notice.ended if all(ready) else None
            if None not in (notice.first_admission, notice.ready_again, notice.agreed):
                return
            await asyncio.sleep(LOOK_SECONDS)

    def _dishonest(self, watch: Watch) -> list[str]:
        """The nodes that said they were ready all the last lease, and refused everybody who came in it."""
        since = self.notice.ended - bounds.PACE.lease
        found = []
        for name, seen in watch.seen.items():
            said = [ready for at, ready in seen.ready if at >= since]
            came = [a.outcome for a in self._attempts() if a.node == name and a.began >= since]
            if said and all(said) and came and ADMITTED not in came:
                found.append(name)
        return found if since >= self.notice.began + bounds.PACE.lease else []

    # What was noticed

    def _attempts(self) -> list[Attempt]:
        return [*self.others.attempts, *self.touched.attempts, *self.insistent.attempts]

    def _visitors(self) -> list[Visitor]:
        return [attempt.client for attempt in self._attempts() if attempt.client is not None]

    def _sort_attempts(self) -> None:
        notice = self.notice
        for group, kept in (
            (self.others, notice.others), (self.touched, notice.touched), (self.insistent, notice.insistent),
        ):  # fmt: skip
            kept += [a for a in group.attempts if notice.began <= a.began <= notice.ended]

    async def _compare(self) -> None:
        """Count what is held without a socket, once nobody comes and the comparisons of the nodes have been made."""
        until = time.monotonic() + bounds.RECORDS_AND_SOCKETS + bounds.SLACK
        open_ids = {client.manager for client in self.living if client.is_open}
        while True:
            held = await asyncio.to_thread(self.rig.held)
            self.notice.leaked = len(held ^ open_ids)
            if not self.notice.leaked or time.monotonic() > until:
                return
            await asyncio.sleep(LOOK_SECONDS)

    def _note(self, watch: Watch) -> None:
        notice = self.notice
        notice.closed = Counter(f"{c.code} {c.reason}".strip() for c in self.living if not c.is_open)
        notice.longest_wait = max(client.longest_wait for client in self.living)
        notice.fenced = self.rig.fenced_since(notice.began)
        notice.lost_leases = watch.lost_leases
        notice.ended_nodes = [name for name, seen in watch.seen.items() if seen.ended]
        notice.backlog = watch.backlog
        for name, seen in watch.seen.items():
            if seen.unready_since is not None:
                notice.unready[name] = (seen.unready_since - notice.began, seen.why)


async def _all_in(wanted: list[tuple[TestUser, object, Callable[[], Visitor]]]) -> list:  # type: ignore[type-arg]
    """Open all, some at a time; each must be admitted."""
    gate = asyncio.Semaphore(OPEN_AT_ONCE)

    async def one(user: TestUser, node: object, make: Callable[[], Visitor]) -> Visitor:
        async with gate:
            attempt, client = await knock(node, user, make)  # type: ignore[arg-type]
        assert client is not None, f"{user.name} was not admitted before the fault: {attempt.outcome}"
        return client

    return list(await asyncio.gather(*(one(*each) for each in wanted)))


@asynccontextmanager
async def _running(*bodies: Coroutine[None, None, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(body) for body in bodies]
    try:
        yield
    finally:
        await _end(tasks)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks, and raise the exception of one that had failed before."""
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
