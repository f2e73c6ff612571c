"""Databases that move: a standby is promoted, and the name leads to the old primary for a while."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tests.chaos.relays import Relay, to_path
from tests.chaos.stores import Postgres
from tests.outages.rig import DATABASE, ROLE, Rig, make_nodes, seeded_postgres, started, url_on
from tests.outages.scenario import Scenario
from tests.support.databases import Database, PostgresTemplate
from tests.support.standby import Standby, follow, promote, wait_until_followed


class Name:
    """The name of the database: a port that leads to one of the servers. Open connections stay where they are."""

    def __init__(self, server: Postgres) -> None:
        self._loop = asyncio.new_event_loop()
        self._relay = Relay(to_path(server.socket_path))
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._relay.start(), self._loop).result(5)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._relay.stop(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def lead_to(self, server: Postgres) -> None:
        """New connections go to this server."""
        self._relay.dial = to_path(server.socket_path)

    @property
    def url(self) -> str:
        return f"postgres://{ROLE}@127.0.0.1:{self._relay.port}/{DATABASE}"


class Pair(Rig):
    """A rig whose PostgreSQL has a standby. `name` is None if the nodes know both servers."""

    name: Name | None = None

    def swap(self) -> tuple[Postgres, Postgres]:
        """Make the standby the primary of this rig, and return the old one and the new one."""
        assert self.postgres is not None
        assert self.standby is not None
        self.postgres, self.standby = self.standby, self.postgres
        return self.standby, self.postgres

    def measure_at(self, server: Postgres) -> None:
        """From now on our own statements go to this server."""
        self.database.url = PostgresTemplate.url_of(server.socket_folder, DATABASE)


@contextmanager
def _pair(folder: Path) -> Iterator[tuple[Postgres, Standby, Database]]:
    with seeded_postgres(folder) as (primary, database):
        standby = Standby(primary, folder / "standby")
        standby.start()
        try:
            wait_until_followed(primary)
            yield primary, standby, database
        finally:
            standby.stop()


@contextmanager
def named_rig(folder: Path) -> Iterator[Rig]:
    """Two nodes that know one name, which leads to the primary."""
    with _pair(folder) as (primary, standby, database):
        name = Name(primary)
        name.start()
        try:
            pair = Pair(folder, database, make_nodes(folder, name.url), primary, standby=standby)
            pair.name = name
            with started(pair):
                yield pair
        finally:
            name.stop()


@contextmanager
def two_hosts_rig(folder: Path) -> Iterator[Rig]:
    """Two nodes that know both servers, and ask for the one that takes writes."""
    with _pair(folder) as (primary, standby, database):
        hosts = f"{primary.socket_folder},{standby.socket_folder}"
        nodes = make_nodes(folder, url_on(hosts, target_session_attrs="read-write"))
        with started(Pair(folder, database, nodes, primary, standby=standby)) as pair:
            yield pair


@asynccontextmanager
async def switched_over(rig: Rig) -> AsyncIterator[None]:
    """Change the roles of both servers in order. The name leads to the old one, now a standby, until the end."""
    assert isinstance(rig, Pair)
    assert rig.name is not None
    await asyncio.to_thread(_switch, rig)
    try:
        yield
    finally:
        assert rig.postgres is not None
        rig.name.lead_to(rig.postgres)


def _switch(pair: Pair) -> None:
    old, new = pair.swap()
    old.stop()
    promote(new)
    follow(old, new)
    pair.measure_at(new)


@asynccontextmanager
async def lost(rig: Rig) -> AsyncIterator[None]:
    """The primary is lost, and its standby is promoted at the end."""
    assert isinstance(rig, Pair)
    old, new = rig.swap()
    await asyncio.to_thread(old.stop, hard=True)
    rig.measure_at(new)
    try:
        yield
    finally:
        await asyncio.to_thread(promote, new)


@contextmanager
def failed_over_rig(folder: Path) -> Iterator[Rig]:
    """A rig that has had a failover, so that the next one leads back."""
    with named_rig(folder) as rig:
        assert isinstance(rig, Pair)
        assert rig.name is not None
        assert rig.standby is not None
        rig.name.lead_to(rig.standby)
        _switch(rig)
        yield rig


SCENARIOS = [
    Scenario("failover", "a failover, and the name leads to the old primary, now a standby", switched_over, named_rig,
             away=True, seconds=(1.0, 10.0, 60.0)),
    Scenario("failback", "the same back to the first server", switched_over, failed_over_rig,
             away=True, seconds=(1.0, 10.0)),
    Scenario("lost-primary", "the primary is lost, and its standby is promoted later; the nodes know both", lost,
             two_hosts_rig, away=True, loses_commits=True, seconds=(1.0, 10.0, 60.0)),
]  # fmt: skip
