"""How fast a run's cluster is set, the bounds that DESIGN derives from that, and by when each is due. Pure.

The bounds hold "while the database answers", and of a node that works. So a bound is due when its time has passed
without a disturbance of the node that it is about.
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
ADMISSION = 4.0  # not to be set: after which a handshake is told to come back
SOFT_LIMIT, BURST = 8, 3
CONNECTS, CONNECTS_SECONDS = 30, 10.0  # the default rate

MARGIN = 2.0  # for a machine of two cores on which three nodes, two stores and all clients run, and nodes start
LOCKS = 2.5  # half a lease of five beats: so long a node that freezes in a transaction keeps its locks
AFTER = 2.5  # libpq takes no connect timeout below 2 s, so a node may learn that late that its database is back
CLEAN = 1.0
SILENT = PACE.heartbeat + PACE.pong + PACE.beat
LOST = PACE.lease + 1.2 * PACE.sweep + PACE.beat
BACK = PACE.probe + 2 * PACE.beat  # from above the soft limit
MAX_RETRY = 30.0
AGREED = 2 * PACE.lease + LOST + RECONCILE + HANDSHAKE  # a fence needs a witness of a lease; a run may wait two


def settings() -> dict[str, Any]:
    """For `Server`: CONNECTIONS_BEAT_SECONDS and so on."""
    return PACE.settings(
        reconcile_seconds=RECONCILE,
        handshake_seconds=HANDSHAKE,
        send_seconds=SEND,
        stuck_seconds=STUCK,
        soft_limit=SOFT_LIMIT,
        burst=BURST,
    )


def calm(history: History, node: str) -> Iterator[tuple[float, float]]:
    """The times in which nothing was done to this node or its database, as (start, end)."""
    kinds = {str(kind) for kind in (*NODE_AWAY, *NODE_WITHOUT_DATABASE)}
    everywhere = {LAG, *(str(kind) for kind in DATABASE_AWAY)}
    hurt = [
        (window.began, window.ended + AFTER)
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
    """By when what was to be done by this node within `bound` of `start` must be done. EVER: this never fell due."""
    for began, ended in calm(history, node):
        due_at = max(began, start) + bound + MARGIN
        if due_at <= ended:
            return due_at
    return EVER


def lost_due(history: History, start: float) -> float:
    """By when what a node held that was gone at `start` must be free: as soon as any node could witness and sweep."""
    return min(due(history, node, start, LOST) for node in NODES)
