"""The managers that a user holds, with the evidence of the stored rows. Only a roll call asks the clients."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from connections.conf import Tunables, tunables
from connections.models import ManagerRecord, Node
from connections.policy.node_state import NodeState
from connections.policy.states import DEAD, RecordState, Verdict
from connections.policy.wording import duration
from connections.records import lease
from connections.recovery.inspection import verdict_of
from console import wording


class Doubt(StrEnum):
    """How strongly the stored facts suggest that a record has no living client."""

    NONE = "none"
    SOME = "some"
    DEAD = "dead"


# Where a verdict is listed here, it outweighs the other evidence.
DOUBT_OF = dict.fromkeys(DEAD, Doubt.DEAD) | {Verdict.UNKNOWN: Doubt.SOME, Verdict.MOVED: Doubt.SOME}


@dataclass(frozen=True, slots=True)
class ManagerRow:
    record: ManagerRecord
    node_state: NodeState
    verdict: Verdict
    doubt: Doubt
    evidence: tuple[str, ...]

    @property
    def short_id(self) -> str:
        return str(self.record.id)[:8]

    @property
    def closing(self) -> bool:
        return self.record.state == RecordState.CLOSING

    @property
    def held(self) -> bool:
        return self.record.state != RecordState.CLOSED

    @property
    def badge(self) -> str:
        """The stored state if the verdict is alive, else the verdict: a dead manager must not look live."""
        return self.record.state if self.verdict is Verdict.ALIVE else wording.in_words(self.verdict, wording.VERDICTS)


@dataclass(frozen=True, slots=True)
class HeldManagers:
    rows: tuple[ManagerRow, ...]
    stored_at: datetime | None
    """When one of their nodes last renewed its lease; None if the user holds no managers."""
    roll_call_at: datetime | None
    """When a roll call last gave a verdict, with or without an answer."""


def manager_row(record: ManagerRecord, now: datetime, fenceable: Collection[Any] | None = None) -> ManagerRow:
    """Return one row of the page. `fenceable`: ids of the nodes that would be fenced now; None: read them."""
    values = tunables()
    if fenceable is None:
        fenceable = lease.would_fence(values, now)
    state = record.node.state_at(now, values.late_seconds)
    verdict = Verdict.ALIVE
    if record.state != RecordState.CLOSED:
        verdict = verdict_of(record, set(fenceable), now, values)
    found = _evidence(record, state, now, values)
    doubt = max((level for level, _ in found), key=list(Doubt).index, default=Doubt.NONE)
    if not verdict.known:  # of a newer version: it may mean anything
        doubt = max(doubt, Doubt.SOME, key=list(Doubt).index)
    return ManagerRow(record, state, verdict, DOUBT_OF.get(verdict, doubt), tuple(text for _, text in found))


def held_managers(user: Any, now: datetime) -> HeldManagers:
    """Return the held managers of one user, the most doubtful first, then the least recently active."""
    held = ManagerRecord.objects.held().filter(user=user).select_related("node")
    fenceable = lease.would_fence(tunables(), now)
    rows = [manager_row(record, now, fenceable) for record in held]
    levels = list(Doubt)
    rows.sort(key=lambda row: (-levels.index(row.doubt), row.record.last_active_at))
    answers = [row.record.probe_answered_at for row in rows if row.record.probe_answered_at is not None]
    return HeldManagers(
        rows=tuple(rows),
        stored_at=max((row.record.node.renewed_at for row in rows), default=None),
        roll_call_at=max(answers, default=None),
    )


Found = list[tuple[Doubt, str]]


def _evidence(record: ManagerRecord, state: NodeState, now: datetime, values: Tunables) -> Found:
    if record.state == RecordState.CLOSED:
        return [(Doubt.NONE, record.evidence)] if record.evidence else []
    return [
        *_of_node(record.node, state, now),
        *_of_close(record, now),
        *_of_client(record, now, values),
        *_of_roll_call(record, now),
    ]


def _of_node(node: Node, state: NodeState, now: datetime) -> Found:
    silent = duration((now - node.renewed_at).total_seconds())
    if state is NodeState.FENCED:
        return [(Doubt.DEAD, f"node {node.name} was lost: {node.fenced_evidence}")]
    if state is NodeState.RETIRED:
        return [(Doubt.SOME, f"node {node.name} has drained and ended")]
    if state is NodeState.LAPSED:
        return [(Doubt.SOME, f"node {node.name} has been silent for {silent}, and its lease is over")]
    if state is NodeState.LATE:
        return [(Doubt.SOME, f"node {node.name} is late: silent for {silent}")]
    return []


def _of_close(record: ManagerRecord, now: datetime) -> Found:
    found: Found = []
    if record.closing_at is not None:
        asked = duration((now - record.closing_at).total_seconds())
        why = wording.in_words(record.close_reason, wording.REASONS)
        found.append((Doubt.NONE, f"closing for {asked} ({why}); its node has not confirmed yet"))
    if record.sweep_error:
        found.append((Doubt.SOME, f"could not be freed: {record.sweep_error}"))
    return found


def _of_client(record: ManagerRecord, now: datetime, values: Tunables) -> Found:
    def since(moment: datetime) -> float:
        return (now - moment).total_seconds()

    found: Found = []
    if record.accepted_at is None and since(record.opened_at) > values.handshake_seconds:
        found.append((Doubt.SOME, f"admitted {duration(since(record.opened_at))} ago, but never opened"))
    if record.overdue_since is not None:
        found.append((Doubt.SOME, f"the client has owed an answer for {duration(since(record.overdue_since))}"))
    if record.busy_since is not None:
        busy = since(record.busy_since)
        level = Doubt.SOME if busy > values.stuck_seconds else Doubt.NONE
        found.append((level, f"its handler has been busy for {duration(busy)}"))
    if record.turn_since is not None:
        found.append((Doubt.NONE, f"an agent turn has been running for {duration(since(record.turn_since))}"))
    return found


def _of_roll_call(record: ManagerRecord, now: datetime) -> Found:
    answered = record.probe_answered_at
    if answered is None or not record.probe_verdict:
        return []
    when = f"{duration((now - answered).total_seconds())} ago"
    words = wording.in_words(record.probe_verdict, wording.VERDICTS)
    detail = f" ({record.probe_evidence})" if record.probe_evidence else ""
    # A frame that the client sent later outdates a roll call that it missed.
    outdated = record.last_active_at > answered
    dead = Verdict(record.probe_verdict) in DEAD and not outdated
    return [(Doubt.DEAD if dead else Doubt.NONE, f"roll call {when}: {words}{detail}")]
