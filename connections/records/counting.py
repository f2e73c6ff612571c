"""Counted records of users, as the facts that policy decides by."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from connections.conf import Tunables
from connections.models import ManagerRecord, UserGate
from connections.policy.admission import CountedRecord


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits in force for one user in one pool."""

    soft_limit: int
    ceiling: int


class LimitsByPool(dict[tuple[Any, str], Limits]):
    """The limits by (user, pool). A pool without a gate has the limits of the settings."""

    def __init__(self, gates: Iterable[UserGate], now: datetime, tunables: Tunables) -> None:
        super().__init__({(gate.user_id, gate.pool): limits_of_gate(gate, now, tunables) for gate in gates})
        self._default = Limits(tunables.soft_limit, tunables.soft_limit + tunables.burst)

    def __missing__(self, key: tuple[Any, str]) -> Limits:
        return self._default


def limits_of_gate(gate: UserGate, now: datetime, tunables: Tunables) -> Limits:
    """Return the override if it has not expired, else the route's own limits, else the settings'."""
    soft_limit = gate.limit_at(now, tunables.soft_limit)
    burst = tunables.burst if gate.route_burst is None else gate.route_burst
    return Limits(soft_limit, soft_limit + burst)


def limits_of(user_ids: Collection[Any], now: datetime, tunables: Tunables, *, lock: bool = False) -> LimitsByPool:
    """Return the limits of these users by pool. `lock`: lock their gates, in the order of user and pool.

    A gate that another transaction has locked is not waited for: that raises an error which is `database.is_busy`.
    """
    gates = UserGate.objects.filter(user_id__in=user_ids).order_by("user_id", "pool")
    return LimitsByPool(gates.select_for_update(nowait=True) if lock else gates, now, tunables)


def counted_records(
    user_ids: set[Any], now: datetime, tunables: Tunables, but: Collection[UUID] = ()
) -> dict[tuple[Any, str], list[CountedRecord]]:
    """Return the counted records of these users, as policy takes them, by (user, pool), without the ids in `but`."""
    late = now - timedelta(seconds=tunables.late_seconds)
    found: dict[tuple[Any, str], list[CountedRecord]] = defaultdict(list)
    rows = (
        ManagerRecord.objects.counted()
        .filter(user_id__in=user_ids)
        .values_list(
            "user_id", "pool", "pk", "opened_at", "last_active_at", "node__renewed_at", "overdue_since",
            "turn_since", "device", "attempt",
        )
    )  # fmt: skip
    for user_id, pool, pk, opened, active, renewed, overdue, turn, device, attempt in rows:
        if pk in but:
            continue
        found[user_id, pool].append(
            CountedRecord(
                pk,
                opened,
                active,
                on_late_node=renewed < late,
                overdue=overdue is not None,
                turn=turn is not None,
                device=device,
                attempt=attempt,
            )
        )
    return found
