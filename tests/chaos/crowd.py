"""All tabs of all users: tabs are opened, reloaded and closed, and send messages."""

import asyncio
import random
import time

from tests.chaos.cluster import Cluster
from tests.chaos.history import LAG
from tests.chaos.tabs import Person, Tab
from tests.support.databases import TestUser

CHAT_SECONDS = 0.25  # between two messages, on average, over all tabs
RELOAD_SECONDS = 0.4  # between two tabs that are reloaded or closed, on average, over all tabs
LAG_SECONDS = 0.5  # if this process is late by so much, its clients count as clients that did not answer
LOOK_SECONDS = 0.05


class Crowd:
    def __init__(self, cluster: Cluster, users: list[TestUser], rng: random.Random) -> None:
        self.people = [Person(user) for user in users]
        self.tabs: list[Tab] = []
        self._cluster = cluster
        self._rng = rng
        self._tasks: dict[asyncio.Task[None], Tab] = {}
        self._made = 0

    def fill(self, count: int) -> None:
        """Open `count` tabs. Some users get few of them, and some more than the soft limit."""
        weights = [1 + number % 4 for number in range(len(self.people))]
        for person in self._rng.choices(self.people, weights, k=count):
            self.add(person, 1)

    def add(self, person: Person, count: int) -> None:
        for _ in range(count):
            self._made += 1
            tab = Tab(self._made, person, self._cluster, random.Random(self._rng.getrandbits(64)))
            self.tabs.append(tab)
            task = asyncio.create_task(tab.live(), name=f"tab {tab.number}")
            self._tasks[task] = tab

    def pick_open(self, count: int) -> list[Tab]:
        """Choose up to `count` tabs with an open socket at random."""
        living = [tab for tab in self.tabs if tab.socket is not None and tab.socket.connection.open]
        return self._rng.sample(living, min(count, len(living)))

    def raise_failures(self) -> None:
        """Raise the exception of a tab's task that has failed, which is a mistake in the chaos client itself."""
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.pop(task).wants_connection = False
            task.result()

    async def keep_chatting(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(0, 2 * CHAT_SECONDS))
            for tab in self.pick_open(1):
                tab.send_message()
            for tab in self.pick_open(1):
                tab.resend()

    async def come_and_go(self, count: int) -> None:
        """Reload tabs, close tabs, and open new ones, so that there are about `count`."""
        while True:
            await asyncio.sleep(self._rng.uniform(0, 2 * RELOAD_SECONDS))
            here = [tab for tab in self.tabs if tab.wants_connection]
            for tab in self.pick_open(1):
                if len(here) > count:
                    await self.close(tab)
                else:
                    tab.leave("closed")
            if len(here) < count:
                self.add(self._rng.choice(self.people), 1)

    async def close(self, tab: Tab) -> None:
        """Close a tab for good."""
        tab.leave("closed")
        task = next(task for task, its in self._tasks.items() if its is tab)
        del self._tasks[task]
        self.tabs.remove(tab)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def record_lag(self) -> None:
        """Record a `LAG` window whenever this process is late, since its clients did not answer during that time."""
        while True:
            expected = time.time() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            if time.time() - expected > LAG_SECONDS:
                window = self._cluster.history.open_window(LAG, "")
                window.began, window.ended = expected, time.time()

    def stop_use_here(self) -> None:
        """From now on no tab that was told to stay away connects again by a click on "Use here"."""
        for tab in self.tabs:
            tab.use_here_stopped = True

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for tab in self.tabs:
            if tab.socket is not None:
                tab.socket.run_is_over = True
                tab.socket.transport.disconnect(graceful=False)
