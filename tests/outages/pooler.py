"""PgBouncer between the nodes and PostgreSQL: in both modes, which drops the startup parameter `options` or not."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

from tests.outages.locks import RECORDS, held_by_stranger
from tests.outages.rig import DATABASE, ROLE, Rig, Unable, make_nodes, seeded_postgres, started
from tests.outages.scenario import Scenario
from tests.support.pgbouncer import MISSING, PgBouncer, binary

LOCK = f"LOCK TABLE {RECORDS} IN SHARE MODE"


class Pooled(Rig):
    bouncer: PgBouncer


@contextmanager
def pooled_rig(folder: Path, *, mode: str, drops_options: bool) -> Iterator[Rig]:
    """Raises Unable, and ServeRefuses where the nodes will not work with it."""
    if binary() is None:
        raise Unable(MISSING)
    with seeded_postgres(folder) as (postgres, database):
        bouncer = PgBouncer(folder / "bouncer", postgres, ROLE, mode=mode, drops_options=drops_options)
        bouncer.start()
        try:
            nodes = make_nodes(folder, f"postgres://{ROLE}@127.0.0.1:{bouncer.port}/{DATABASE}")
            pooled = Pooled(folder, database, nodes, postgres)
            pooled.bouncer = bouncer
            with started(pooled):
                yield pooled
        finally:
            bouncer.stop()


@asynccontextmanager
async def restarted_under_a_lock(rig: Rig) -> AsyncIterator[None]:
    """PgBouncer is restarted, and a stranger locks the table of records: only our own time-outs end our waits."""
    assert isinstance(rig, Pooled)
    rig.bouncer.stop()
    rig.bouncer.start()
    async with held_by_stranger(LOCK)(rig):
        yield


def _scenario(mode: str, drops_options: bool) -> Scenario:
    return Scenario(
        f"pgbouncer-{mode}{'' if drops_options else '-strict'}",
        f"PgBouncer in {mode} mode, which {'drops' if drops_options else 'refuses'} `options`, is restarted,"
        f" and then `{LOCK}`",
        restarted_under_a_lock,
        partial(pooled_rig, mode=mode, drops_options=drops_options),
        touched_leave=True,
        seconds=(10.0,),
    )


SCENARIOS = [_scenario(mode, drops) for mode in ("session", "transaction") for drops in (True, False)]
