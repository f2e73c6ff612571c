"""What this process counts, for Prometheus. Figures that are read and not counted are in `exposition`.

Whatever a transaction does is counted when it has committed.
"""

from functools import partial

from django.db import transaction
from prometheus_client import Counter, Histogram

from connections.models.routing import alias
from connections.policy.states import DEAD, CloseReason

_DEAD = {verdict.value for verdict in DEAD}
# Seconds. An admission takes milliseconds, and 4 s at the most; a kick a bell or a beat; a run a probe, or two leases.
_ADMISSION = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4)
_KICK = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 10)
_RUN = (0.1, 0.25, 0.5, 1, 2, 5, 7.5, 10, 15, 20, 30, 60)

admissions = Counter("connections_admissions", "Handshakes by outcome: admitted, or why refused.", ["outcome"])
admission_seconds = Histogram(
    "connections_admission_seconds", "From the connect event to the decision, the commit included.", buckets=_ADMISSION
)
closes = Counter("connections_closes", "Manager records by the reason that was written to close them.", ["reason"])
dead = Counter("connections_dead", "Slots that had no living client behind them, by kind.", ["kind"])
kick_seconds = Histogram(
    "connections_kick_seconds",
    "From a close ordered in a record until the node that holds the socket closes it.",
    buckets=_KICK,
)
runs = Histogram(
    "connections_run_seconds", "Recovery runs, from opened to finished.", ["kind", "outcome"], buckets=_RUN
)
fenced = Counter("connections_nodes_fenced", "Nodes that this process fenced.")
drift = Counter(
    "connections_reconcile_drift",
    "Differences that the full comparison found: record without manager, manager without record, session ended.",
    ["kind"],
)
abandoned = Counter("connections_handlers_abandoned", "Handlers that swallowed their cancellation and live on.")
database_trouble = Counter(
    "connections_database_trouble",
    "Rounds and batches that found the database away, or a row locked.",
    ["worker", "kind"],
)
bus_trouble = Counter("connections_bus_trouble", "Calls of the bus that failed.", ["call"])


def closed(reason: CloseReason | str, count: int = 1) -> None:
    """So many records got this reason in the transaction under way."""
    if count:
        transaction.on_commit(partial(_closed, str(reason), count), using=alias())


def _closed(reason: str, count: int) -> None:
    closes.labels(reason).inc(count)
    if reason in _DEAD:
        dead.labels(reason).inc(count)


# Each at 0 from the start, so that a rate knows the first one.
for _reason in CloseReason:
    closes.labels(_reason.value)
for _kind in _DEAD:
    dead.labels(_kind)
for _difference in ("orphaned", "lost", "session"):
    drift.labels(_difference)
