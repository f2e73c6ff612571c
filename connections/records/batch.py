"""A batch of admissions under the gates of its users: read the facts, let policy decide, write the rows.

A batch is one transaction: `plan_batch` locks and decides, then `write_batch` writes. `plan_batch` locks the gates,
then all records that the transaction may change. It passes over whatever another transaction has locked, and waits for
nobody.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist
from django.db import DatabaseError

from connections import database
from connections.conf import Tunables
from connections.models import ManagerRecord, UserGate
from connections.models.routing import users
from connections.policy.actor import Actor
from connections.policy.admission import Admission, CountedRecord, Handshake, Newcomer, admit
from connections.policy.states import ActorKind, CloseReason, Refused
from connections.records import gates, lease, lifecycle
from connections.records.counting import Limits, counted_records, limits_of_gate
from connections.records.lifecycle import Ending
from connections.records.queue import Item, Release
from connections.records.system_runs import open_system_runs

logger = logging.getLogger(__name__)


class VictimFailed(DatabaseError):
    """The record that was to make room can't be written. Nothing of the batch was; the next by rank can be tried."""

    def __init__(self, record_id: UUID) -> None:
        super().__init__(f"record {record_id} could not be closed for a newcomer")
        self.record_id = record_id


@dataclass(slots=True)
class Batch:
    """The outcome of a committed batch. `admissions` and `refused` are by manager id.

    `locked`: of these managers something could not be written, since another transaction holds a lock.
    """

    admissions: dict[UUID, Admission] = field(default_factory=dict)
    refused: dict[UUID, Refused] = field(default_factory=dict)
    locked: set[UUID] = field(default_factory=set)
    closing: dict[UUID, UUID] = field(default_factory=dict)  # record id -> id of the node to ring
    runs_opened: int = 0


@dataclass(slots=True)
class Plan:
    """The decisions of a batch, to be written in the transaction that made them."""

    now: datetime
    mine: set[UUID]  # the records that this transaction has locked
    batch: Batch = field(default_factory=Batch)
    patient: Collection[UUID] = ()
    unclosable: frozenset[UUID] = frozenset()
    newcomers: list[ManagerRecord] = field(default_factory=list)
    victims: dict[UUID, tuple[CloseReason, str]] = field(default_factory=dict)  # why, and the evidence
    over: set[Any] = field(default_factory=set)  # users who get a run


@dataclass(frozen=True, slots=True)
class Demand:
    """What a batch is asked to write. `leaving` and `accepted` are records of before; all ids are of managers."""

    handshakes: Sequence[Handshake] = ()
    leaving: Collection[UUID] = ()  # they take no slot, if they can be locked
    accepted: Collection[UUID] = ()
    patient: Collection[UUID] = ()  # the handshakes that may wait for a lock, rather than close the next by rank
    unclosable: Collection[UUID] = ()  # records that are known to be unwritable


def plan_batch(demand: Demand, node_id: UUID | None, tunables: Tunables) -> Plan:
    """Lock all that the batch may change, and decide each handshake under the gate of its user.

    Without a `node_id` every handshake waits. Raises lease.NodeGone, and the database's errors.
    """
    handshakes = demand.handshakes
    if not handshakes or node_id is None:
        plan = Plan(database.now(), lifecycle.lock_available({*demand.leaving, *demand.accepted}))
        plan.batch.locked |= {handshake.id for handshake in handshakes}
        return plan
    lease.hold_node(node_id)
    locked_gates = gates.lock(handshakes)
    now = database.now()
    active = _active_users({h.user_id for h in handshakes})
    users = {user_id for user_id, _ in locked_gates}
    counted = counted_records(users, now, tunables)
    in_question = _in_question(handshakes, locked_gates, counted, now, tunables)
    questioned = lifecycle.lock_available(in_question, counted=True)
    mine = questioned | lifecycle.lock_available({*demand.leaving, *demand.accepted} - questioned)
    if not in_question <= questioned:  # some are locked elsewhere, or take no slot since they were counted
        counted = counted_records(users, now, tunables)
    ending = mine.intersection(demand.leaving)
    plan = Plan(now, mine, patient=demand.patient, unclosable=frozenset(demand.unclosable))
    for handshake in handshakes:
        key = (handshake.user_id, handshake.pool)
        others = counted[key] = [record for record in counted[key] if record.id not in ending]
        if not active.get(handshake.user_id, False):
            plan.batch.refused[handshake.id] = Refused.ACCOUNT_DISABLED
            continue
        gate = locked_gates.get(key)
        admission = (
            None if gate is None else _decide(plan, handshake, limits_of_gate(gate, now, tunables), others, tunables)
        )
        if admission is None:
            plan.batch.locked.add(handshake.id)
        elif admission.superseded:
            plan.batch.refused[handshake.id] = Refused.REPLACED
        else:
            _note(plan, handshake, admission, others, node_id)
    return plan


def _in_question(
    handshakes: Sequence[Handshake],
    locked_gates: dict[tuple[Any, str], UserGate],
    counted: dict[tuple[Any, str], list[CountedRecord]],
    now: datetime,
    tunables: Tunables,
) -> set[UUID]:
    """Return the records that may have to be closed for a newcomer: of its device, and all of a user at the ceiling."""
    newcomers = Counter((h.user_id, h.pool) for h in handshakes)
    devices = {(h.user_id, h.pool, h.device) for h in handshakes if h.device is not None}
    found: set[UUID] = set()
    for key, gate in locked_gates.items():
        full = len(counted[key]) + newcomers[key] > limits_of_gate(gate, now, tunables).ceiling
        found.update(r.id for r in counted[key] if full or (*key, r.device) in devices)
    return found


def _decide(
    plan: Plan, handshake: Handshake, limits: Limits, others: list[CountedRecord], tunables: Tunables
) -> Admission | None:
    """Decide one handshake over the counted records of its user. None: it waits for a lock.

    The first by rank is often locked for a moment only, by a beat that writes what has changed. So a patient handshake
    waits for it, and another one takes the next.
    """
    would_admit = partial(
        admit,
        Newcomer(handshake.id, handshake.device, handshake.attempt),
        others,
        soft_limit=limits.soft_limit,
        burst=limits.ceiling - limits.soft_limit,
        now=plan.now,
        handshake=timedelta(seconds=tunables.handshake_seconds),
        enforce=not tunables.observe,
    )
    if tunables.observe:
        _log_what_would_be(handshake, would_admit(enforce=True))
    admission = would_admit(unclosable=plan.unclosable)
    locked = {record.id for record in others} - plan.mine
    if admission is None or not locked.intersection((admission.replaced, admission.evicted)):
        return admission
    return None if handshake.id in plan.patient else would_admit(unclosable=plan.unclosable | locked)


def _note(plan: Plan, handshake: Handshake, admission: Admission, others: list[CountedRecord], node_id: UUID) -> None:
    """Note what has to be written for an admission, and count the newcomer among the others."""
    plan.batch.admissions[handshake.id] = admission
    gone = {admission.replaced, admission.evicted}
    others[:] = [h for h in others if h.id not in gone]
    now = plan.now
    others.append(CountedRecord(handshake.id, now, now, device=handshake.device, attempt=handshake.attempt))
    plan.mine.add(handshake.id)
    plan.newcomers.append(_row(handshake, node_id, now))
    if admission.replaced:
        plan.victims[admission.replaced] = (CloseReason.REPLACED, f"its device connected again as {handshake.id}")
    if admission.evicted:
        evidence = f"ranked first at the ceiling of {admission.ceiling} when {handshake.id} connected"
        plan.victims[admission.evicted] = (CloseReason.EVICTED, evidence)
    if admission.open_run:
        plan.over.add(handshake.user_id)


def write_batch(plan: Plan) -> Batch:
    """Write the decisions, in the transaction that made them. Raises VictimFailed."""
    ManagerRecord.objects.bulk_create(plan.newcomers)
    for record_id, (reason, evidence) in sorted(plan.victims.items()):
        victim, ending = ManagerRecord.objects.filter(pk=record_id), Ending(reason, evidence, Actor.system())
        try:
            plan.batch.closing |= lifecycle.order_close(victim, ending, plan.now)
        except (database.Busy, *database.AWAY):
            raise
        except DatabaseError as error:
            raise VictimFailed(record_id) from error
    plan.batch.runs_opened = _open_runs(plan)
    return plan.batch


def _open_runs(plan: Plan) -> int:
    """Open the runs of the users over their limits. The sweep opens those that another transaction's lock prevents."""
    if not plan.over:
        return 0
    try:
        with database.atomic():
            return open_system_runs(plan.over, plan.now)
    except database.Busy as error:
        logger.warning("runs_found_lock", extra={"error": str(error), "users": len(plan.over)})
        return 0


def end_items(items: Iterable[Item], node_name: str, now: datetime) -> None:
    """End the records of those items that have a release. Lock them before the call."""
    groups: dict[Release, list[UUID]] = {}
    for item in items:
        if item.release is not None:
            groups.setdefault(item.release, []).append(item.id)
    for release, ids in groups.items():
        by_client = release.reason is CloseReason.CLIENT_CLOSED
        actor = Actor(ActorKind.USER, "the client") if by_client else Actor.system(node_name)
        lifecycle.end(ids, Ending(release.reason, release.evidence, actor), now)


def fingerprint(session_key: str) -> str:
    """Return what is stored of a session key: its SHA-256 in hex, or "" for no key. The key itself is a credential."""
    return hashlib.sha256(session_key.encode()).hexdigest() if session_key else ""


def _active_users(user_ids: set[Any]) -> dict[Any, bool]:
    model = get_user_model()
    found = users().filter(pk__in=user_ids)
    try:
        model._meta.get_field("is_active")
    except FieldDoesNotExist:
        return dict.fromkeys(found.values_list("pk", flat=True), True)
    return dict(found.values_list("pk", "is_active"))


def _log_what_would_be(handshake: Handshake, would: Admission | None) -> None:
    if would is None:
        return
    whose = {"user": str(handshake.user_id), "pool": handshake.pool}
    if would.superseded:
        logger.warning("would_refuse", extra=whose | {"cause": Refused.REPLACED})
    for reason, victim in ((CloseReason.REPLACED, would.replaced), (CloseReason.EVICTED, would.evicted)):
        if victim is not None:
            logger.warning("would_close", extra=whose | {"manager": str(victim), "reason": reason})
    if would.open_run:
        logger.warning("would_recover", extra=whose | {"live": would.live, "soft_limit": would.soft_limit})


def _row(handshake: Handshake, node_id: UUID, now: datetime) -> ManagerRecord:
    return ManagerRecord(
        id=handshake.id,
        user_id=handshake.user_id,
        pool=handshake.pool,
        node_id=node_id,
        device=handshake.device,
        attempt=handshake.attempt,
        session_fingerprint=fingerprint(handshake.session_key),
        ip=handshake.ip,
        user_agent=handshake.user_agent[:300],
        opened_at=now,
        last_active_at=now,
    )
