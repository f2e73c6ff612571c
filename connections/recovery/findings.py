"""Findings of a run: what it found and did for each manager, and the outcome that follows from them."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connections.conf import Tunables, tunables
from connections.models import ManagerRecord, Node, RecoveryRun
from connections.policy.admission import excess
from connections.policy.node_state import verdict_by_node
from connections.policy.states import DEAD, Action, CloseReason, Outcome, RecordState, RunKind, Verdict
from connections.policy.wording import clock_time
from connections.records import counting, lease

_PROVEN_BY_REASON = {
    CloseReason.NODE_LOST: Verdict.NODE_LOST,
    CloseReason.ORPHANED: Verdict.ORPHANED,
    CloseReason.UNRESPONSIVE: Verdict.UNRESPONSIVE,
    CloseReason.STUCK: Verdict.STUCK,
    CloseReason.NEVER_OPENED: Verdict.NEVER_OPENED,
    CloseReason.NODE_DRAINING: Verdict.MOVED,
}


@dataclass(frozen=True, slots=True)
class Finding:
    verdict: Verdict
    evidence: str


def evidence_of(node: Node) -> str:
    """Return the sentence that says why the records of a gone node are freed."""
    if node.retired_at is not None:
        return f"node {node.name} drained at {clock_time(node.retired_at)}"
    fenced_at = "" if node.fenced_at is None else clock_time(node.fenced_at)
    return f"node {node.name} was fenced at {fenced_at}: {node.fenced_evidence}"


def silence_of(node: Node, now: datetime) -> str:
    silent = (now - node.renewed_at).total_seconds()
    return f"node {node.name} has not renewed its lease for {silent:.0f} s"


def stock_of(run: RecoveryRun) -> list[ManagerRecord]:
    """Return the records of a run's stock, as they are now."""
    rows = ManagerRecord.objects.filter(pk__in=run.stock).select_related("node").order_by("opened_at", "pk")
    return list(rows)


def finding_of(row: ManagerRecord, run: RecoveryRun, now: datetime, fenceable: Collection[Any] = ()) -> Finding:
    """What is known of one record of a run, from its row and its node's. `fenceable`: ids of the nodes that the fence
    would take now; a run that may fence has done so, and passes none.
    """
    if row.state == RecordState.CLOSED:
        reason = CloseReason(row.close_reason)
        if reason in _PROVEN_BY_REASON:
            return Finding(_PROVEN_BY_REASON[reason], row.evidence)
        if row.node.fenced_at is not None and row.closed_at and row.closed_at >= row.node.fenced_at:
            return Finding(Verdict.NODE_LOST, row.evidence)
        return Finding(_answered(row, run) or Verdict.ALIVE, row.evidence)
    state = row.node.state_at(now, tunables().late_seconds)
    by_node = verdict_by_node(state, fenceable=row.node_id in fenceable)
    if by_node is not None and state.gone:
        return Finding(by_node, evidence_of(row.node))
    if by_node is Verdict.NODE_LOST:
        return Finding(by_node, silence_of(row.node, now))
    answered = _answered(row, run)
    if answered is not None:
        return Finding(answered, row.probe_evidence)
    if row.state == RecordState.CLOSING:
        return Finding(Verdict.UNKNOWN, f"told to close ({row.close_reason}), not confirmed yet")
    if by_node is not None:
        return Finding(by_node, silence_of(row.node, now))
    return Finding(Verdict.UNKNOWN, f"node {row.node.name} has not answered the roll call")


def _answered(row: ManagerRecord, run: RecoveryRun) -> Verdict | None:
    return Verdict(row.probe_verdict) if row.probe_verdict and answered_since(row, run.roll_call_at) else None


def answered_since(row: ManagerRecord, started: datetime | None) -> bool:
    """Whether the node of this record answered a roll call after `started`. An answer to a request of later than that
    counts as well, though the database's clock was set back before it came.
    """
    if started is None or row.probe_answered_at is None:
        return False
    return row.probe_answered_at >= started or (row.probe_wanted_at is not None and row.probe_wanted_at >= started)


def conclude(run: RecoveryRun, now: datetime, values: Tunables) -> None:
    """Set findings and `after` of a run from the records as they are now."""
    lost = lease.would_fence(values, now) if run.dry_run else set()
    findings: list[dict[str, Any]] = []
    living: dict[str, set[str]] = {}
    for row in stock_of(run):
        found = finding_of(row, run, now, lost)
        action = _would(found, row, run) if run.dry_run else _did(found, row)
        findings.append(
            {
                "id": str(row.pk),
                "pool": row.pool,
                "node": row.node.name,
                "verdict": found.verdict.value,
                "evidence": found.evidence,
                "action": action.value,
                "reason": row.close_reason or _would_be_reason(found, action),
            }
        )
        if action is Action.SPARED:
            living.setdefault(row.pool, set()).add(str(row.pk))
    if run.dry_run and run.kind == RunKind.CLEANUP:
        _mark_would_evict(run, findings, living, now, values)
    run.findings = findings
    held = ManagerRecord.objects.held().filter(user_id=run.user_id).count()
    run.after = (run.before or 0) - _would_go(findings) if run.dry_run else held


def _did(found: Finding, row: ManagerRecord) -> Action:
    if row.state == RecordState.CLOSED:
        if found.verdict in DEAD:
            return Action.FREED
        return Action.EVICTED if row.close_reason == CloseReason.EVICTED else Action.CLOSED
    if row.state == RecordState.CLOSING or found.verdict in DEAD:
        return Action.UNCONFIRMED
    return Action.WAITING if found.verdict is Verdict.UNKNOWN else Action.SPARED


def _would(found: Finding, row: ManagerRecord, run: RecoveryRun) -> Action:
    if row.state == RecordState.CLOSED:
        return Action.CLOSED
    if found.verdict in DEAD or found.verdict is Verdict.MOVED:
        return Action.WOULD_FREE
    if run.kind == RunKind.RESET:
        return Action.WOULD_CLOSE
    if row.state == RecordState.CLOSING:
        return Action.UNCONFIRMED
    return Action.WAITING if found.verdict is Verdict.UNKNOWN else Action.SPARED


def _would_be_reason(found: Finding, action: Action) -> str:
    if action is Action.WOULD_CLOSE:
        return CloseReason.RESET
    if action is Action.WOULD_FREE:
        return CloseReason.NODE_DRAINING if found.verdict is Verdict.MOVED else found.verdict.value
    return ""


def _mark_would_evict(
    run: RecoveryRun, findings: list[dict[str, Any]], living: dict[str, set[str]], now: datetime, values: Tunables
) -> None:
    user_id: Any = run.user_id
    limits = counting.limits_of({user_id}, now, values)
    counted = counting.counted_records({user_id}, now, values)
    victims: set[str] = set()
    for (_, pool), records in counted.items():
        alive = [record for record in records if str(record.id) in living.get(pool, ())]
        victims |= {str(h.id) for h in excess(alive, limits[user_id, pool].soft_limit)}
    for finding in findings:
        if finding["id"] in victims:
            finding["action"], finding["reason"] = Action.WOULD_EVICT.value, CloseReason.EVICTED.value


GONE = (Action.FREED, Action.EVICTED, Action.CLOSED)
WOULD_GO = (Action.WOULD_FREE, Action.WOULD_EVICT, Action.WOULD_CLOSE)


def _would_go(findings: list[dict[str, Any]]) -> int:
    return sum(f["action"] in WOULD_GO for f in findings)


def outcome_of(run: RecoveryRun) -> Outcome:
    """Return the outcome that the findings of a run add up to. It is stored when the run ends."""
    actions = {finding["action"] for finding in run.findings}
    if actions & {Action.WAITING, Action.UNCONFIRMED}:
        return Outcome.PARTIAL
    wanted = WOULD_GO if run.dry_run else GONE
    return Outcome.RECOVERED if actions & set(wanted) else Outcome.NOTHING_TO_DO


def report(run: RecoveryRun) -> dict[str, Any]:
    """Return a run as the JSON that `recover_user` prints, as the contract has it."""
    counted = WOULD_GO if run.dry_run else GONE
    freed = Counter(f["reason"] for f in run.findings if f["action"] in counted)
    actions = Counter(f["action"] for f in run.findings)
    return {
        "run": str(run.pk),
        "kind": run.shown_kind,
        "outcome": run.outcome,
        "before": run.before,
        "after": run.after,
        "soft_limit": run.soft_limit,
        "freed": dict(freed),
        "spared": actions[Action.SPARED],
        "unconfirmed": actions[Action.UNCONFIRMED],
        "duration_ms": run.duration_ms,
        "managers": [
            {key: finding[key] for key in ("id", "pool", "verdict", "evidence", "action")} for finding in run.findings
        ],
    }
