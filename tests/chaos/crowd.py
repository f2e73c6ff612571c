"""All the tabs of all users: who comes, who goes, who says something."""

import asyncio
import random
import time

from tests.chaos.cluster import Cluster
from tests.chaos.history import LAG
from tests.chaos.tabs import Person, Tab
from tests.support.databases import TestUser

TALK_SECONDS = 0.25  # between two messages of anybody
RELOAD_SECONDS = 0.4  # between two reloads, or tabs closed, of anybody
LAG_SECONDS = 0.5  # this process late by so much counts as clients that did not answer
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
        """So many tabs. Some users have few, and some more than the soft limit."""
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

    def some(self, count: int) -> list[Tab]:
        """Tabs with an open socket, at random."""
        living = [tab for tab in self.tabs if tab.socket is not None and tab.socket.connection.open]
        return self._rng.sample(living, min(count, len(living)))

    def check(self) -> None:
        """Raises what a tab has raised: that would be a mistake of ours."""
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.pop(task).wants = False
            task.result()

    async def talk(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(0, 2 * TALK_SECONDS))
            for tab in self.some(1):
                tab.ask()
            for tab in self.some(1):
                tab.resend()

    async def come_and_go(self, count: int) -> None:
        """People reload, close tabs, and open new ones, so that about `count` are there."""
        while True:
            await asyncio.sleep(self._rng.uniform(0, 2 * RELOAD_SECONDS))
            here = [tab for tab in self.tabs if tab.wants]
            for tab in self.some(1):
                if len(here) > count:
                    await self.close(tab)
                else:
                    tab.leave("closed")
            if len(here) < count:
                self.add(self._rng.choice(self.people), 1)

    async def close(self, tab: Tab) -> None:
        """The tab is closed for good."""
        tab.leave("closed")
        task = next(task for task, its in self._tasks.items() if its is tab)
        del self._tasks[task]
        self.tabs.remove(tab)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def watch_itself(self) -> None:
        """This process has to be on time, or it would call clients living that did not answer."""
        while True:
            expected = time.time() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            if time.time() - expected > LAG_SECONDS:
                window = self._cluster.history.open_window(LAG, "")
                window.began, window.ended = expected, time.time()

    def calm_down(self) -> None:
        """From now on nobody comes by themselves who was sent away."""
        for tab in self.tabs:
            tab.staying_away = True

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for tab in self.tabs:
            if tab.socket is not None:
                tab.socket.over = True
                tab.socket.transport.disconnect(graceful=False)
