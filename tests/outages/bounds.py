"""The timings of the nodes under test, and the bounds that follow from them. Seconds."""

from typing import Any

from tests.support.scenes import Pace

PACE = Pace(beat=0.5, lease=4.0, probe=1.0, heartbeat=2.0, pong=2.0, sweep=1.0)
RECONCILE = 4.0
HANDSHAKE = 6.0  # more than a handshake may wait for its decision
SOFT_LIMIT = 20

GIVEN_UP = 4.0  # a handshake that can't be decided is told to try again after so long; not a setting
FACTOR = 2.0  # by how much the 99th percentile of other users' handshakes may grow
FLOOR = 0.1  # added to that bound, times how crowded the cores are: normally a handshake takes some milliseconds
SLACK = 1.0  # for work that is due, and waits for one of two cores that nodes, stores and clients share
FIRST_ADMISSION = 1.0  # from the database's first answer until a newcomer is admitted
RECORDS_AND_SOCKETS = RECONCILE + HANDSHAKE  # until they agree, if rows or messages were lost


def settings() -> dict[str, Any]:
    """The keyword arguments for `Server`."""
    return PACE.settings(
        reconcile_seconds=RECONCILE,
        handshake_seconds=HANDSHAKE,
        soft_limit=SOFT_LIMIT,
        connect_rate="1000/10s",  # the rate limit is not under test, and newcomers are few users
        metrics="on",
    )
