"""The timings of a run's cluster, the bounds of the design that follow from them, and when each bound is due. Pure.

A bound holds only while the database answers and the node works. So it is due once its seconds have passed without a
fault on its node.
"""

from collections.abc import Iterator
from typing import Any

from tests.chaos.history import DATABASE_AWAY, EVER, LAG, NODE_AWAY, NODE_WITHOUT_DATABASE, History
from tests.chaos.schedule import NODES
from tests.support.scenes import Pace

PACE = Pace(beat=0.5, lease=4.0, probe=1.0, heartbeat=2.0, pong=2.0, sweep=1.0)
RECONCILE = 4.0
HANDSHAKE = 4.0
SEND = 4.0
STUCK = 10.0
ADMISSION = 4.0  # after which a handshake is told to try again; not a setting
SOFT_LIMIT, BURST = 8, 3
CONNECTS, CONNECTS_SECONDS = 30, 10.0  # the default rate

MARGIN = 2.0  # since three nodes, two stores and all clients share two cores, on which nodes also start
FROZEN_LOCKS = 2.5  # how long a node that freezes in a transaction keeps its locks: half a lease of five beats
RECONNECT = 2.5  # until a node notices that its database is back: libpq takes no connect timeout below 2 s
CLEAN_CLOSE = 1.0  # from a client's clean close until its slot is free
SILENT = PACE.heartbeat + PACE.pong + PACE.beat  # from a client's last answer until its slot is free
LOST = PACE.lease + 1.2 * PACE.sweep + PACE.beat  # from a node's end until its slots are free
BACK_AT_LIMIT = PACE.probe + 2 * PACE.beat  # from a user's last admission above the soft limit
MAX_RETRY = 30.0  # the longest delay that a refused client may be told
# From the repair until records and sockets agree: a fence needs a witness that is steady for a lease, and a run may
# wait for two leases.
AGREED = 2 * PACE.lease + LOST + RECONCILE + HANDSHAKE


def settings() -> dict[str, Any]:
    """The keyword arguments for `Server`, `beat_seconds` and so on."""
    return PACE.settings(
        reconcile_seconds=RECONCILE,
        handshake_seconds=HANDSHAKE,
        send_seconds=SEND,
        stuck_seconds=STUCK,
        soft_limit=SOFT_LIMIT,
        burst=BURST,
    )


def undisturbed(history: History, node: str) -> Iterator[tuple[float, float]]:
    """Yield the times, as (start, end), in which no fault was on this node or its database."""
    kinds = {str(kind) for kind in (*NODE_AWAY, *NODE_WITHOUT_DATABASE)}
    everywhere = {LAG, *(str(kind) for kind in DATABASE_AWAY)}
    hurt = [
        (window.began, window.ended + RECONNECT)
        for window in history.windows
        if window.kind in everywhere or (window.kind in kinds and window.target == node)
    ]
    at = 0.0
    for began, ended in sorted(hurt):
        if began > at:
            yield at, began
        at = max(at, ended)
    yield at, EVER


def due(history: History, node: str, start: float, bound: float) -> float:
    """By when the node must do what it has to do within `bound` seconds of `start`; EVER if that never fell due."""
    for began, ended in undisturbed(history, node):
        due_at = max(began, start) + bound + MARGIN
        if due_at <= ended:
            return due_at
    return EVER


def lost_due(history: History, start: float) -> float:
    """By when the slots of a node that was gone at `start` must be free: once any one node could witness and sweep."""
    return min(due(history, node, start, LOST) for node in NODES)
