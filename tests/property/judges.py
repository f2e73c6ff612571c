"""What must always hold of the rows, whatever ran at the same moment. Each failed check says what it found."""

import itertools
import logging
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User

from connections.models import ManagerRecord, Node, RecoveryRun, UserGate
from connections.policy.admission import Admission
from connections.policy.states import CloseReason, RecordState, Refused
from tests.property.cluster import VALUES, ClusterNode, ShiftedClock

Key = tuple[int, str]  # user and pool

# Log events of a thread that has given up waiting for a lock, held by an outsider or by a slow thread. That costs a
# retry and is allowed. A deadlock never is: in this test PostgreSQL reports one before a thread gives up.
LOCK_WAITS = {
    "batch_replayed",
    "item_found_lock",
    "records_skipped_as_locked",
    "records_changed_one_by_one",
    "sweep_batch_replayed",
    "round_found_lock",
    "run_found_lock",
}
STATE_ORDER = (RecordState.LIVE, RecordState.CLOSING, RecordState.CLOSED)
FINAL_FIELDS = (
    "state",
    "close_reason",
    "evidence",
    "actor_kind",
    "actor",
    "closed_at",
    "closing_at",
    "run_id",
)
IMPOSSIBLE_REASONS = {CloseReason.ORPHANED, CloseReason.STUCK, CloseReason.NEVER_OPENED, CloseReason.HANDLER_FAILED}


def log_text(record: logging.LogRecord) -> str:
    cause = record.exc_info[1] if record.exc_info else ""
    return f"{record.getMessage()} {getattr(record, 'error', '')}{cause!r}"


def records_of(user: User) -> list[Any]:
    rows = ManagerRecord.objects.filter(user=user).order_by("pk")
    return list(rows.values_list("pk", "state", "node_id", "closing_at", "closed_at", "probe_wanted_at"))


def limits(users: Iterable[User], pools: Iterable[str], now: datetime) -> dict[Key, int]:
    gates = {(gate.user_id, gate.pool): gate.limit_at(now, VALUES.soft_limit) for gate in UserGate.objects.all()}
    return {(u.pk, pool): gates.get((u.pk, pool), VALUES.soft_limit) for u, pool in itertools.product(users, pools)}


def ceilings(users: Iterable[User], pools: Iterable[str], now: datetime, also: Sequence[int | None]) -> dict[Key, int]:
    """The highest ceilings that may be in force during a step which also sets these limits."""
    others = [VALUES.soft_limit if limit is None else limit for limit in also]
    return {key: max([limit, *others]) + VALUES.burst for key, limit in limits(users, pools, now).items()}


def state_index(state: str) -> int:
    return STATE_ORDER.index(RecordState(state))


def final_fields(row: Mapping[str, Any]) -> list[Any]:
    return [row[name] for name in FINAL_FIELDS]


class Judge:
    def __init__(self, clock: ShiftedClock, nodes: Sequence[ClusterNode]) -> None:
        self.silent: set[uuid.UUID] = set()  # the records whose clients have ever fallen silent
        self._clock = clock
        self._nodes = nodes
        self._attempts = itertools.count(1)
        self.begin()

    def next_attempt(self) -> int:
        return next(self._attempts)

    def begin(self) -> None:
        self._before = {row["id"]: row for row in ManagerRecord.objects.values()}
        self._gone = set(Node.objects.exclude(fenced_at=None, retired_at=None).values_list("pk", flat=True))
        self._counted = self._count()

    def _count(self) -> Counter[Key]:
        return Counter(ManagerRecord.objects.counted().values_list("user_id", "pool"))

    # After each step

    def nothing_failed(self, outcomes: list[Any], logged: list[logging.LogRecord]) -> None:
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert not errors, f"failed: {[(repr(e), repr(e.__cause__)) for e in errors]}"
        wrong = [r for r in logged if not (r.getMessage() in LOCK_WAITS and "deadlock" not in log_text(r))]
        assert not wrong, f"logged: {[log_text(r) for r in wrong]}"

    def handshakes_are_answered(self, outcomes: list[Any]) -> None:
        """Each handshake was admitted, replaced by a newer attempt of its device, or made on a node that was fenced; or
        its socket ended meanwhile.
        """
        rows = {row["id"]: row for row in ManagerRecord.objects.values()}
        gone = set(Node.objects.exclude(fenced_at=None, retired_at=None).values_list("pk", flat=True))
        for node, shake, decision in itertools.chain(*(o for o in outcomes if isinstance(o, list))):
            if isinstance(decision, Admission):
                assert shake.id in rows, "admitted without a record"
                before = self._counted[shake.user_id, shake.pool]
                bound = max(decision.ceiling, before)
                assert decision.live <= bound, f"admitted as number {decision.live} of {decision.ceiling}"
            elif decision is Refused.REPLACED:
                assert shake.device is not None
                assert shake.id not in rows, "superseded, and has a record"
            else:
                assert decision is Refused.TRY_AGAIN, decision
                assert node.id in gone or shake.id in node.closed, "a handshake on a living node was refused"
                left = rows.get(shake.id)
                assert left is None or left["state"] == RecordState.CLOSED, "a refused handshake holds a slot"

    def bounded(self, sampled: dict[Key, int], ceilings: dict[Key, int]) -> None:
        for key, highest in sampled.items():
            bound = max(ceilings[key], self._counted[key])
            assert highest <= bound, f"{highest} counted at a ceiling of {ceilings[key]}, {self._counted[key]} before"

    def records_are_final(self) -> None:
        """No record returns to an earlier state or changes its first reason, each closed record is explained, and no
        user has two open runs of one kind.
        """
        after = {row["id"]: row for row in ManagerRecord.objects.values()}
        assert not self._before.keys() - after.keys(), "a record is gone"
        for pk, row in after.items():
            before = self._before.get(pk)
            if row["state"] == RecordState.CLOSED:
                assert all(row[f] for f in ("evidence", "actor_kind", "close_reason", "closed_at")), row
            if before is None:
                continue
            assert state_index(row["state"]) >= state_index(before["state"]), f"{before['state']} became {row['state']}"
            if before["state"] != RecordState.LIVE:
                assert row["close_reason"] == before["close_reason"], "the first reason did not stand"
                assert row["evidence"].startswith(before["evidence"][:400]), "the first evidence did not stand"
            if before["state"] == RecordState.CLOSED:
                assert final_fields(row) == final_fields(before), "a closed record was changed"
        runs = RecoveryRun.objects.open().filter(dry_run=False).values_list("user_id", "kind")
        assert not [run for run, number in Counter(runs).items() if number > 1], "two open runs of a kind"

    def the_living_are_spared(self) -> None:
        """Each record that was closed as dead had a silent client or a node that was gone, and no node has admitted a
        record after its fence.
        """
        fenced_names = set(Node.objects.exclude(fenced_at=None).values_list("name", flat=True))
        for row in ManagerRecord.objects.closed().select_related("node"):
            reason = CloseReason(row.close_reason)
            assert reason not in IMPOSSIBLE_REASONS, f"{reason}: {row.evidence}"
            if reason is CloseReason.UNRESPONSIVE:
                assert row.pk in self.silent, "a client that answers was closed as unresponsive"
            elif reason is CloseReason.NODE_DRAINING:
                assert self._has_drained(row.node.name), f"closed as draining: {row.evidence}"
            elif reason is CloseReason.NODE_LOST:
                # A handshake that waited while its process registered again is closed with the others of the old row.
                assert row.node.fenced_at is not None or (
                    row.node.name in fenced_names and "woke up" in row.evidence
                ), f"lost with a living node: {row.evidence}"
        for row in ManagerRecord.objects.exclude(node__fenced_at=None).select_related("node"):
            assert row.node.fenced_at is not None
            assert row.opened_at <= row.node.fenced_at, "admitted by a node that was fenced before"

    def _has_drained(self, name: str) -> bool:
        return Node.objects.filter(name=name).exclude(retired_at=None).exists()

    def fences_are_witnessed(self) -> None:
        """Each node that was fenced in this step had not renewed for a lease, and a steady node was a witness."""
        for row in Node.objects.exclude(fenced_at=None).exclude(pk__in=self._gone):
            at = row.fenced_at
            assert at is not None
            owner = next(node for node in self._nodes if row.pk in node.renewals)
            last = max(owner.renewals[row.pk])
            assert (at - last).total_seconds() > VALUES.lease_seconds, f"fenced {at - last} after it renewed"
            witnesses = [
                (node.name, identity)
                for node in self._nodes
                for identity in node.renewals
                if identity != row.pk and identity not in self._gone and node.steady_at(at, identity)
            ]
            assert witnesses, f"{row.name} was fenced without a steady witness"

    # When all has healed

    def living_counted(self) -> Counter[Key]:
        """Counted records whose sockets are there and answer, on nodes that no fence can take."""
        answering = {pk for node in self._nodes for pk, answers in node.answers.items() if answers}
        now = self._clock.now()
        rows = ManagerRecord.objects.counted().filter(pk__in=answering, node__in=Node.objects.alive(now))
        return Counter(rows.values_list("user_id", "pool"))

    def records_and_sockets_agree(self) -> None:
        open_runs = list(RecoveryRun.objects.open().values_list("kind", "step", "error"))
        assert not open_runs, f"runs that do not end: {open_runs}"
        held = set(ManagerRecord.objects.held().values_list("pk", flat=True))
        sockets = {pk for node in self._nodes for pk in node.answers}
        assert held - sockets == set(), "records without a socket"
        assert sockets - held == set(), "sockets without a record"

    def back_at_the_limit(self, limits: dict[Key, int], living: Counter[Key] | None) -> None:
        """No user is over a limit, and if `living` is given, no more living clients were closed than the limit needs.

        `living` has the counted records with living clients before the repair, if nothing else was under way then.
        """
        now = self._count()
        for key, limit in limits.items():
            assert now[key] <= limit, f"{now[key]} counted at a limit of {limit}"
            if living is not None:
                wanted = min(living[key], limit)
                assert now[key] >= wanted, f"{living[key]} lived at a limit of {limit}, and {now[key]} are left"
