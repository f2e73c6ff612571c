"""The judges of admission: "bounded", "never locked out", "no storms"."""

from collections import defaultdict

from connections.policy.states import CloseReason, Refused
from tests.chaos import bounds
from tests.chaos.history import (
    CLIENTS_AWAY,
    DATABASE_AWAY,
    EVER,
    LAG,
    NODE_AWAY,
    NODE_WITHOUT_DATABASE,
    Connection,
    History,
)
from tests.chaos.judges.verdict import Verdict
from tests.chaos.schedule import NODES, Kind

NO_DATABASE = (*DATABASE_AWAY, *NODE_WITHOUT_DATABASE, Kind.FREEZE, LAG)
STAY_AWAY = {CloseReason.EVICTED, CloseReason.REPLACED, CloseReason.CLOSED_BY_USER}
SPREAD = {CloseReason.RESET: (0.5, 5.0), CloseReason.NODE_DRAINING: (0.5, 5.0), CloseReason.NODE_LOST: (0.5, 5.0)}


def bounded(history: History) -> Verdict:
    verdict = Verdict()
    for seen in history.admissions:
        verdict.check(
            seen.counted <= history.ceiling,
            f"{seen.user} counted {seen.counted} in {seen.pool} at a ceiling of {history.ceiling}"
            f" when an admission was committed at {seen.at:.2f}",
        )
    arrivals = defaultdict(list)
    for seen in history.admissions:
        arrivals[seen.user, seen.pool].append(seen.at)
    over: dict[tuple[str, str], float] = {}
    for sample in history.samples:
        for key in [key for key in over if sample.counted.get(key, 0) <= history.soft_limit]:
            del over[key]
        for key, counted in sample.counted.items():
            verdict.check(counted <= history.ceiling, f"{key[0]} counted {counted} at {sample.at:.2f}")
            if counted > history.soft_limit:
                over.setdefault(key, sample.at)
                last = max([over[key], *(at for at in arrivals[key] if at <= sample.at)])
                last = _unlocked(history, key[0], last, sample.at)
                back_by = min(bounds.due(history, node, last, bounds.BACK_AT_LIMIT) for node in NODES)
                verdict.check(
                    sample.at <= back_by,
                    f"{key[0]} counted {counted} at {sample.at:.2f}, above {history.soft_limit} since {over[key]:.2f},"
                    f" and nobody came since {last:.2f}",
                )
    verdict.counts["highest"] = max((seen.counted for seen in history.admissions), default=0)
    return verdict


def _unlocked(history: History, user: str, start: float, end: float) -> float:
    """When the last lock ended for which a run of this user may have waited in this time; `start` if there was none."""
    for window in history.windows:
        if not window.overlaps(start, end):
            continue
        if window.kind in (Kind.FREEZE, Kind.HOLD_DATABASE):
            start = max(start, min(window.ended, window.began + bounds.FROZEN_LOCKS))
        elif window.kind == Kind.LOCK_GATE and window.target == user:
            start = max(start, window.ended)
    return start


def never_locked_out(history: History) -> Verdict:
    verdict = Verdict()
    by_device = defaultdict(list)
    for connection in history.connections:
        by_device[connection.device].append(connection)
    for connection in history.connections:
        if connection.admitted is None and connection.left is None:
            verdict.counts[connection.closing.reason if connection.closing else "no connection"] += 1
            verdict.check(_excused(history, connection, by_device[connection.device]), _refusal(connection))
        else:
            verdict.checked += 1
    for device, connections in by_device.items():
        for began, ended in _spans(connections):
            faults = sum(max(0.0, min(w.ended, ended) - max(w.began, began)) + bounds.RECONNECT for w in history.windows
                         if w.overlaps(began, ended))  # fmt: skip
            verdict.check(
                ended - began <= bounds.MAX_RETRY + faults,
                f"device {device} of {connections[0].user} was kept out for {ended - began:.1f} s",
            )
    healed = history.agreement
    verdict.check(healed.waiting == 0, f"{healed.waiting} clients were still out after everything was repaired")
    return verdict


def _excused(history: History, connection: Connection, same_device: list[Connection]) -> bool:
    """Whether a handshake was refused or failed for a cause that the design allows and that was there at that time."""
    closing = connection.closing
    until = min(closing.at if closing else EVER, connection.ended or EVER)
    if closing is None:
        return history.during(connection.began, until, [LAG]) or history.during(
            connection.began - bounds.MARGIN, until, (*NODE_AWAY, *CLIENTS_AWAY), connection.node
        )
    if closing.retry_after > bounds.MAX_RETRY:
        return False
    since = connection.began - bounds.RECONNECT
    match closing.reason:
        case Refused.TRY_AGAIN:
            return (
                history.during(since, until, NO_DATABASE, connection.node)
                or history.during(since, until, (*DATABASE_AWAY, LAG))
                or history.during(connection.began, until, [Kind.LOCK_GATE], connection.user)
            )
        case Refused.NODE_DRAINING:
            return history.during(connection.began, until, [Kind.DRAIN], connection.node)
        case Refused.REPLACED:
            return any(other.attempt > connection.attempt and other.admitted is not None for other in same_device)
        case Refused.RATE_LIMITED:
            return _rate_spent(history, connection)
        case CloseReason.NODE_LOST | CloseReason.EVICTED | CloseReason.RESET:
            # The node admitted it and closed it before `ready`. The judges of endings judge its record.
            return any(
                (record.device, record.attempt) == (connection.device, connection.attempt) for record in history.records
            )
    return False


def _rate_spent(history: History, connection: Connection) -> bool:
    """Whether this user had so many handshakes on this node that tokens may have run out, at two tokens for each."""
    recent = [
        other
        for other in history.connections
        if other.user == connection.user
        and other.node == connection.node
        and connection.began - 2 * bounds.CONNECTS_SECONDS <= other.began <= connection.began
    ]
    return 2 * len(recent) >= bounds.CONNECTS


def _refusal(connection: Connection) -> str:
    if connection.closing is not None:
        why = f"{connection.closing.reason}, come back after {connection.closing.retry_after} s"
    else:
        why = connection.failed or f"no closing frame, and code {connection.code}"
    return f"{connection.user} on {connection.node} at {connection.began:.2f} was not admitted: {why}"


def _spans(connections: list[Connection]) -> list[tuple[float, float]]:
    """The times in which a device tried in vain: from a first refusal to the next `ready`, or to the last attempt."""
    spans = []
    began: float | None = None
    for connection in sorted(connections, key=lambda connection: connection.began):
        if connection.admitted is None:
            began = connection.began if began is None else began
        elif began is not None:
            spans.append((began, connection.admitted))
            began = None
    if began is not None:
        spans.append((began, max(connection.began for connection in connections)))
    return spans


def no_storms(history: History) -> Verdict:
    verdict = Verdict()
    drawn = defaultdict(list)
    for connection in history.connections:
        closing = connection.closing
        if closing is None:
            continue
        if closing.reason in STAY_AWAY:
            verdict.check(
                closing.reconnect == "never", f"{connection.user} was {closing.reason}, and told to reconnect"
            )
        if connection.admitted is not None and closing.reason in SPREAD:
            low, high = SPREAD[CloseReason(closing.reason)]
            verdict.check(
                closing.reconnect == "after" and low <= closing.retry_after <= high,
                f"{connection.user} was closed as {closing.reason} and told to come back after {closing.retry_after} s",
            )
            drawn[closing.reason, connection.node, round(closing.at)].append(closing.retry_after)
    for (reason, node, _), waits in drawn.items():
        verdict.check(
            len(waits) < 5 or len(set(waits)) > len(waits) / 2, f"{node} sent many away for {reason} with one delay"
        )
    handshakes = defaultdict(list)
    for connection in history.connections:
        if connection.admitted is not None:
            handshakes[connection.user, connection.node].append(connection.admitted)
    for (user, node), times in handshakes.items():
        times.sort()
        # A full bucket may be emptied and refilled in this time, and each restart of the node begins with a full one.
        restarts = sum(w.target == node and w.kind in (Kind.KILL, Kind.DRAIN) for w in history.windows)
        most = bounds.CONNECTS * (2 + restarts)
        for start, began in enumerate(times):
            within = sum(at - began <= bounds.CONNECTS_SECONDS for at in times[start:])
            verdict.check(within <= most, f"{user} was admitted {within} times within 10 s on {node}")
            verdict.counts["most in 10 s"] = max(verdict.counts["most in 10 s"], within)
    return verdict
