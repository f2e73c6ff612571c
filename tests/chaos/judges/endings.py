"""The judges of endings: "the dead are freed", "the living are spared", "convergence"."""

import re
from collections import Counter, defaultdict

from connections.policy.states import CloseReason, RecordState
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
    Record,
)
from tests.chaos.judges.verdict import Verdict
from tests.chaos.schedule import Kind

ABRUPT = (Kind.KILL, Kind.DRAIN, *CLIENTS_AWAY, LAG)
FENCEABLE = (Kind.KILL, Kind.FREEZE, Kind.DRAIN, *NODE_WITHOUT_DATABASE)


def the_dead_are_freed(history: History) -> Verdict:
    verdict = Verdict()
    connections = history.connections_by_attempt()
    for record in history.records:
        connection = connections.get((record.device, record.attempt))
        verdict.check(connection is not None, f"record {record.id} of {record.user} belongs to no client of this run")
        if connection is None:
            continue
        by, why = _free_by(history, connection)
        verdict.check(
            record.freed <= by,
            f"{record.user}'s {record.id} on {connection.node} was freed at {record.freed:.2f},"
            f" {record.freed - by:.1f} s after it was due: {why}; closed as {record.reason or 'nothing'}",
        )
        if by < EVER:
            verdict.counts["dead"] += 1
    for drain in history.drains:
        hurt = history.during(drain.began, drain.ended, (Kind.FREEZE, *NODE_WITHOUT_DATABASE, *DATABASE_AWAY))
        verdict.check(
            drain.code == 0 and (hurt or drain.ended - drain.began <= 10 + bounds.MARGIN),
            f"{drain.node} was told to end and did so with {drain.code} after {drain.ended - drain.began:.1f} s",
        )
    return verdict


def _free_by(history: History, connection: Connection) -> tuple[float, str]:
    """By when the slot of this connection must be free, and why; EVER if its client lived to the end."""
    found = [(EVER, "")]
    for window in history.windows:
        there = connection.began <= window.began and (
            connection.ended is None or connection.ended >= window.began - bounds.MARGIN
        )
        if window.target != connection.node or not there:
            continue
        lost_by = bounds.lost_due(history, window.began)
        if window.kind in (Kind.KILL, Kind.DRAIN):
            found.append((lost_by, f"its node ended at {window.began:.2f}"))
        elif window.kind in (Kind.FREEZE, *NODE_WITHOUT_DATABASE) and lost_by <= window.ended:
            found.append((lost_by, f"nothing was heard of its node since {window.began:.2f}"))
    if connection.silent is not None:
        found.append(
            (
                bounds.due(history, connection.node, connection.silent, bounds.SILENT),
                f"silent since {connection.silent:.2f}",
            )
        )
    if connection.left is not None:
        unheard = history.during(
            connection.left - bounds.MARGIN, connection.left + bounds.CLEAN_CLOSE, CLIENTS_AWAY, connection.node
        )
        bound = bounds.SILENT if unheard or connection.silent is not None else bounds.CLEAN_CLOSE
        if connection.admitted is None:
            bound = max(bound, bounds.ADMISSION)  # the client left in the middle of its handshake
        held = next(
            (w.ended for w in history.windows if unheard and w.overlaps(connection.left, connection.left)),
            connection.left,
        )
        found.append(
            (bounds.due(history, connection.node, held, bound), f"{connection.leaving} at {connection.left:.2f}")
        )
    return min(found)


def the_living_are_spared(history: History) -> Verdict:
    verdict = Verdict()
    connections = history.connections_by_attempt()
    fenced = {node.id for node in history.nodes if node.fenced is not None}
    for record in history.records:
        connection = connections.get((record.device, record.attempt))
        if connection is None or record.state != RecordState.CLOSED or connection.admitted is None:
            continue
        wrong = _wrong(history, connection, record, fenced)
        verdict.counts["closed"] += 1
        verdict.counts["living wrongly closed"] += bool(wrong)
        verdict.check(
            not wrong, f"{record.user}'s {record.id} on {connection.node} was closed as {record.reason}: {wrong}"
        )
    for connection in history.connections:
        if (
            connection.admitted is not None
            and connection.ended is not None
            and connection.closing is None
            and connection.left is None
        ):
            cut = connection.silent is not None or history.during(
                connection.ended - bounds.MARGIN, connection.ended, ABRUPT
            )
            verdict.check(
                cut,
                f"{connection.user} on {connection.node} was dropped at {connection.ended:.2f} with {connection.code},"
                " without a closing frame",
            )
    for node in history.nodes:
        if node.fenced is not None:
            since = node.renewed - bounds.MARGIN
            hurt = history.during(since, node.fenced, FENCEABLE, node.name)
            lapsed = node.fenced - node.renewed
            verdict.check(
                hurt and lapsed >= bounds.PACE.lease,
                f"{node.name} was fenced {lapsed:.1f} s after it renewed, hurt: {hurt}",
            )
    _evictions(history, verdict)
    return verdict


def _wrong(history: History, connection: Connection, record: Record, fenced: set[str]) -> str:
    """Why this connection may not have ended with this record's reason; empty if it may."""
    end = min(record.freed, connection.ended or EVER)
    since = end - bounds.SILENT - bounds.MARGIN
    mute = (connection.silent is not None and connection.silent <= end) or history.during(since, end, [LAG])
    mute = mute or history.during(since, end, CLIENTS_AWAY, connection.node)
    gone = connection.left is not None or mute
    match record.reason:
        case CloseReason.UNRESPONSIVE:
            return "" if mute or (connection.left is not None and connection.left < end) else "its client answered"
        case CloseReason.CLIENT_CLOSED | CloseReason.CLIENT_GONE:
            return "" if gone or history.during(since, end, NODE_AWAY, connection.node) else "its client was there"
        case CloseReason.NODE_LOST:
            woke = "woke up" in record.evidence
            return "" if record.node in fenced or woke else "its node was not fenced"
        case CloseReason.NODE_DRAINING:
            return "" if history.during(since, end, [Kind.DRAIN], connection.node) else "its node did not drain"
        case CloseReason.REPLACED:
            newer = any(
                other.device == connection.device and other.attempt > connection.attempt
                for other in history.connections
            )
            return "" if newer else "its device did not come again"
        case CloseReason.RESET:
            asked = any(run.id == record.run and run.kind == "reset" for run in history.runs)
            return "" if asked else "nobody asked for a reset"
        case CloseReason.EVICTED:
            return ""  # `_evictions` checks how many were evicted
        case CloseReason.ORPHANED | CloseReason.NEVER_OPENED:
            return "" if gone else "its client was there and its node held the socket"
    return "nothing in this run may end so"


def _evictions(history: History, verdict: Verdict) -> None:
    """Check that a run evicted no more than were over the limit, and an admission at the ceiling exactly one."""
    by_run: Counter[tuple[str, str, float]] = Counter()
    for_whom = defaultdict(list)
    for record in history.records:
        if record.reason != CloseReason.EVICTED:
            continue
        verdict.counts["evicted"] += 1
        if found := re.match(r"ranked first of (\d+) at a limit of (\d+)", record.evidence):
            by_run[record.run, found[0], record.closing or 0.0] += 1
        elif found := re.match(r"ranked first at the ceiling of \d+ when ([0-9a-f-]+) connected", record.evidence):
            for_whom[found[1]].append(record)
        else:
            verdict.violations.append(f"{record.id} was evicted: {record.evidence}")
    for (_, evidence, _), number in by_run.items():
        living, limit = map(int, re.findall(r"\d+", evidence))
        verdict.check(number <= living - limit, f"{number} were evicted, each {evidence}")
    for newcomer, records in for_whom.items():
        verdict.check(len(records) == 1, f"{len(records)} were evicted for {newcomer}")


def convergence(history: History) -> Verdict:
    verdict = Verdict()
    found = history.agreement
    verdict.check(not history.crashes, f"ended by themselves: {history.crashes}")
    verdict.check(
        found.at is not None and found.at - found.healed <= bounds.AGREED + bounds.MARGIN,
        f"records and sockets did not agree {bounds.AGREED + bounds.MARGIN:.0f} s after everything was repaired",
    )
    for manager in sorted(found.held - found.sockets):
        verdict.check(holds=False, otherwise=f"record {manager} has no socket")
    for manager in sorted(found.sockets - found.held):
        verdict.check(holds=False, otherwise=f"socket {manager} has no record")
    verdict.check(found.runs_open == 0, f"{found.runs_open} runs did not end")
    verdict.checked += len(found.held)
    verdict.counts["sockets"] = len(found.sockets)
    verdict.counts["records"] = len(found.held)
    if found.at is not None:
        verdict.counts["agreed after ms"] = round(1000 * (found.at - found.healed))
    return verdict
