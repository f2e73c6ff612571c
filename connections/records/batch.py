"""A batch of admissions under the gates of its users: read the facts, let policy decide, write the rows.

A batch is one transaction: `plan_batch` decides, then `write_batch` writes. `ensure_gates` creates missing gates
beforehand, in autocommit. `plan_batch` locks the gates in (user, pool) order; before `write_batch`, its caller locks
every record that the transaction changes, including the victims.
"""

import hashlib
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist

from connections import database
from connections.conf import Tunables
from connections.models import ManagerRecord, UserGate
from connections.policy.actor import Actor
from connections.policy.admission import Admission, CountedRecord, Handshake, Newcomer, admit
from connections.policy.states import CloseReason, Refused
from connections.records import lease, lifecycle
from connections.records.counting import counted_records, limits_of_gate
from connections.records.lifecycle import Ending
from connections.records.system_runs import open_system_runs

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Batch:
    """The outcome of a committed batch. `admissions` and `refused` are by manager id; `locked` waits for the next."""

    admissions: dict[UUID, Admission] = field(default_factory=dict)
    refused: dict[UUID, Refused] = field(default_factory=dict)
    locked: list[Handshake] = field(default_factory=list)
    closing: dict[UUID, UUID] = field(default_factory=dict)  # record id -> id of the node to ring
    runs_opened: int = 0


@dataclass(slots=True)
class Plan:
    """The decisions of a batch, to be written in the transaction that made them."""

    batch: Batch = field(default_factory=Batch)
    now: datetime | None = None
    newcomers: list[ManagerRecord] = field(default_factory=list)
    victims: dict[UUID, tuple[CloseReason, str]] = field(default_factory=dict)  # why, and the evidence
    over: set[Any] = field(default_factory=set)  # users who get a run


def ensure_gates(pairs: set[tuple[Any, str]]) -> None:
    """Create the missing gates, in autocommit. Concurrent calls create one row."""
    users = {user_id for user_id, _ in pairs}
    known = set(UserGate.objects.filter(user_id__in=users).values_list("user_id", "pool"))
    missing = pairs - known
    if missing:
        UserGate.objects.bulk_create(
            [UserGate(user_id=user_id, pool=pool) for user_id, pool in sorted(missing, key=repr)],
            ignore_conflicts=True,
        )


def plan_batch(
    handshakes: Sequence[Handshake], node_id: UUID, tunables: Tunables, leaving: Collection[UUID] = ()
) -> Plan:
    """Decide each handshake, under the gates of its user. Records `leaving` in the same transaction take no slot.

    Raises lease.NodeGone, and the database's errors.
    """
    lease.hold_node(node_id)
    gates = _lock_gates({(h.user_id, h.pool) for h in handshakes})
    now = database.now()
    active = _active_users({h.user_id for h in handshakes})
    counted = counted_records({user_id for user_id, _ in gates}, now, tunables, leaving)
    plan = Plan(now=now)
    for handshake in handshakes:
        key = (handshake.user_id, handshake.pool)
        gate = gates.get(key)
        if not active.get(handshake.user_id, False):
            plan.batch.refused[handshake.id] = Refused.ACCOUNT_DISABLED
            continue
        if gate is None:
            plan.batch.locked.append(handshake)
            continue
        admission = _admit(handshake, gate, counted[key], now, tunables)
        if admission.superseded:
            plan.batch.refused[handshake.id] = Refused.REPLACED
            continue
        plan.batch.admissions[handshake.id] = admission
        gone = {admission.replaced, admission.evicted}
        counted[key] = [h for h in counted[key] if h.id not in gone]
        counted[key].append(CountedRecord(handshake.id, now, now, device=handshake.device, attempt=handshake.attempt))
        plan.newcomers.append(_row(handshake, node_id, now))
        if admission.replaced:
            plan.victims[admission.replaced] = (CloseReason.REPLACED, f"its device connected again as {handshake.id}")
        if admission.evicted:
            evidence = f"ranked first at the ceiling of {admission.ceiling} when {handshake.id} connected"
            plan.victims[admission.evicted] = (CloseReason.EVICTED, evidence)
        if admission.open_run:
            plan.over.add(handshake.user_id)
    return plan


def write_batch(plan: Plan) -> Batch:
    """Write the decisions, in the transaction that made them, with the victims locked by the caller."""
    if plan.now is None:
        return plan.batch
    ManagerRecord.objects.bulk_create(plan.newcomers)
    for record_id, (reason, evidence) in sorted(plan.victims.items()):
        plan.batch.closing |= lifecycle.order_close(
            ManagerRecord.objects.filter(pk=record_id), Ending(reason, evidence, Actor.system()), plan.now
        )
    plan.batch.runs_opened = open_system_runs(plan.over, plan.now)
    return plan.batch


def fingerprint(session_key: str) -> str:
    """Return what is stored of a session key: its SHA-256 in hex, or "" for no key. The key itself is a credential."""
    return hashlib.sha256(session_key.encode()).hexdigest() if session_key else ""


def _lock_gates(pairs: set[tuple[Any, str]]) -> dict[tuple[Any, str], UserGate]:
    gates = (
        UserGate.objects.filter(user_id__in={user_id for user_id, _ in pairs}, pool__in={pool for _, pool in pairs})
        .order_by("user_id", "pool")
        .select_for_update(skip_locked=True)
    )
    return {(gate.user_id, gate.pool): gate for gate in gates if (gate.user_id, gate.pool) in pairs}


def _active_users(user_ids: set[Any]) -> dict[Any, bool]:
    model = get_user_model()
    users = model._default_manager.filter(pk__in=user_ids)
    try:
        model._meta.get_field("is_active")
    except FieldDoesNotExist:
        return dict.fromkeys(users.values_list("pk", flat=True), True)
    return dict(users.values_list("pk", "is_active"))


def _admit(
    handshake: Handshake, gate: UserGate, counted: list[CountedRecord], now: datetime, tunables: Tunables
) -> Admission:
    if (gate.route_soft_limit, gate.route_burst) != (handshake.soft_limit, handshake.burst):
        gate.route_soft_limit, gate.route_burst = handshake.soft_limit, handshake.burst
        gate.save(update_fields=["route_soft_limit", "route_burst"])
    limits = limits_of_gate(gate, now, tunables)
    would_admit = partial(
        admit,
        Newcomer(handshake.id, handshake.device, handshake.attempt),
        counted,
        soft_limit=limits.soft_limit,
        burst=limits.ceiling - limits.soft_limit,
        now=now,
        handshake=timedelta(seconds=tunables.handshake_seconds),
    )
    if tunables.observe:
        _log_what_would_be(handshake, would_admit())
    return would_admit(enforce=not tunables.observe)


def _log_what_would_be(handshake: Handshake, would: Admission) -> None:
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
