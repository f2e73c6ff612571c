"""The read side: rows as facts for the diagnosis, and as JSON for commands and pages."""

import time
from collections import Counter
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model

from connections import database
from connections.conf import Tunables, tunables
from connections.models import ManagerRecord, Node, RecoveryRun, Refusal
from connections.models.routing import users
from connections.policy import diagnosis
from connections.policy.node_state import NodeState, is_steady, verdict_by_node
from connections.policy.states import Refused, Verdict
from connections.records import counting, lease
from connections.recovery.findings import finding_of

DEFAULT_POOL = "chat"


class UnknownUser(LookupError):
    """No user, or more than one, has that name."""


def find_user(text: str) -> Any:
    """Return a user by `#id`, username or email, in this order. Raises UnknownUser with a sentence for people."""
    model = get_user_model()
    if text.startswith("#"):
        try:
            return users().get(pk=text[1:])
        except (model.DoesNotExist, ValueError, TypeError) as error:
            raise UnknownUser(f"There is no user with the id {text[1:]!r}.") from error
        except Exception as error:  # ValidationError of a key that is no number or UUID
            if type(error).__name__ != "ValidationError":
                raise
            raise UnknownUser(f"There is no user with the id {text[1:]!r}.") from error
    found = list(users().filter(**{model.USERNAME_FIELD: text})[:2])
    email_field = model.get_email_field_name()
    if not found and any(field.name == email_field for field in model._meta.get_fields()):
        found = list(users().filter(**{f"{email_field}__iexact": text})[:2])
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownUser(f"More than one user has the address {text!r}; use the username or #id.")
    raise UnknownUser(f"There is no user {text!r}.")


def diagnose_user(user: Any, now: datetime | None = None) -> diagnosis.Diagnosis:
    """Diagnose a user from stored facts alone. No client is probed, and nothing is changed."""
    return _diagnose(user, None, now)


def diagnosis_of_run(run: RecoveryRun) -> diagnosis.Diagnosis:
    """Diagnose the user of a dry run from the answers to its roll call."""
    return _diagnose(users().get(pk=run.user_id), run, None)


def _diagnose(user: Any, run: RecoveryRun | None, now: datetime | None) -> diagnosis.Diagnosis:
    began = time.monotonic()
    values = tunables()
    now = now or database.now()
    rows = list(ManagerRecord.objects.held().filter(user_id=user.pk).select_related("node").order_by("opened_at", "pk"))
    lost = lease.would_fence(values, now)
    facts = tuple(_fact(row, run, lost, now, values) for row in rows)
    counted = Counter(row.pool for row, fact in zip(rows, facts, strict=True) if fact.counted)
    limits = counting.limits_of({user.pk}, now, values)
    pools = [pool for _, pool in limits]
    at_rest = DEFAULT_POOL if DEFAULT_POOL in pools else next(iter(pools), DEFAULT_POOL)
    pool = max(counted, key=lambda name: counted[name], default=at_rest)
    nodes = list(Node.objects.alive(now).filter(serves=True))
    return diagnosis.diagnose(
        diagnosis.Facts(
            username=user.get_username(),
            pool=pool,
            soft_limit=limits[user.pk, pool].soft_limit,
            ceiling=limits[user.pk, pool].ceiling,
            managers=facts,
            counted_in_pool=counted[pool],
            asked=run is not None,
            active=user.is_active,
            rate_limited_seconds=_rate_limited(user, now),
            nodes=len(nodes),
            nodes_draining=sum(node.drain_wanted_at is not None for node in nodes),
            nodes_full=sum(bool(node.capacity) and node.sockets >= node.capacity for node in nodes),
            database_seconds=time.monotonic() - began,
        )
    )


def _fact(
    row: ManagerRecord, run: RecoveryRun | None, lost: set[Any], now: datetime, values: Tunables
) -> diagnosis.ManagerFact:
    verdict = verdict_of(row, lost, now, values) if run is None else finding_of(row, run, now, lost).verdict
    silent = (now - row.node.renewed_at).total_seconds()
    return diagnosis.ManagerFact(verdict, row.node.name, silent, counted=row.state == "live")


def verdict_of(row: ManagerRecord, lost: set[Any], now: datetime, values: Tunables) -> Verdict:
    """Return the verdict of the stored facts on a held record. `lost`: the nodes that the fence would take now."""
    by_node = verdict_by_node(row.node.state_at(now, values.late_seconds), fenceable=row.node_id in lost)
    if by_node is not None:
        return by_node
    if row.probe_verdict and row.probe_answered_at and row.probe_answered_at > row.last_active_at:
        return Verdict(row.probe_verdict)
    overdue = row.overdue_since
    if overdue is not None and (now - overdue).total_seconds() >= values.pong_seconds:
        return Verdict.UNRESPONSIVE
    return Verdict.ALIVE


def _rate_limited(user: Any, now: datetime) -> float:
    until = (
        Refusal.objects.filter(user_id=user.pk, cause=Refused.RATE_LIMITED, at__lte=now, until__gt=now)
        .order_by("-until")
        .values_list("until", flat=True)
        .first()
    )
    return 0.0 if until is None else (until - now).total_seconds()


def describe_record(row: ManagerRecord) -> dict[str, Any]:
    """One manager as the contract's JSON has it. Times are ISO 8601 with offset."""
    return {
        "id": str(row.pk),
        "user_id": _key(row.user_id),
        "username": row.user.get_username() if row.user is not None else None,
        "pool": row.pool,
        "node": row.node.name,
        "state": row.state,
        "opened_at": row.opened_at,
        "last_active_at": row.last_active_at,
        "closed_at": row.closed_at,
        "close_reason": row.close_reason or None,
        "evidence": row.evidence,
        "ip": row.ip,
        "user_agent": row.user_agent,
        "device": None if row.device is None else str(row.device),
    }


def describe_node(node: Node, now: datetime, values: Tunables, managers: int) -> dict[str, Any]:
    """One node as the contract's JSON has it."""
    state = node.state_at(now, values.late_seconds)
    return {
        "id": str(node.pk),
        "name": node.name,
        "host": node.host,
        "pid": node.pid,
        "started_at": node.started_at,
        "lease_expires_at": node.lease_expires_at,
        "alive": not state.gone and state is not NodeState.LAPSED,
        "steady": is_steady(node, now, values.late_seconds, values.lease_seconds),
        "fenced": state is NodeState.FENCED,
        "draining": node.drain_wanted_at is not None and not state.gone,
        "managers": managers,
    }


def _key(value: Any) -> Any:
    return value if isinstance(value, int) or value is None else str(value)
