"""The number of managers that users hold, compared with their limits.

All queries read held records only, through their partial index, however long the closed history is.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db.models import Count, Q

from connections.conf import tunables
from connections.models import ManagerRecord
from connections.policy.states import RecordState
from connections.records import counting

NEAR = 0.8  # share of the limit from which the chat page warns its user too


class Fill(StrEnum):
    """How full a user's fullest pool is."""

    OVER = "over"
    AT = "at"
    NEAR = "near"
    OK = "ok"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class PoolUsage:
    pool: str
    held: int
    counted: int
    soft_limit: int

    @property
    def near_from(self) -> float:
        return NEAR * self.soft_limit

    @property
    def full_from(self) -> float:
        """The `high` value of a `meter`: above it the pool is full."""
        return max(self.near_from, self.soft_limit - 0.5)

    @property
    def fill(self) -> Fill:
        if self.counted > self.soft_limit:
            return Fill.OVER
        if self.counted == self.soft_limit:
            return Fill.AT
        if self.counted >= self.near_from:
            return Fill.NEAR
        return Fill.OK if self.held else Fill.IDLE


@dataclass(frozen=True, slots=True)
class UserUsage:
    """The pools of one user, and the fullest of them. An idle user has one empty pool."""

    pools: tuple[PoolUsage, ...]

    @property
    def held(self) -> int:
        return sum(pool.held for pool in self.pools)

    @property
    def counted(self) -> int:
        return sum(pool.counted for pool in self.pools)

    @property
    def fullest(self) -> PoolUsage:
        return max(self.pools, key=lambda pool: (pool.counted / pool.soft_limit, pool.held))

    @property
    def fill(self) -> Fill:
        return self.fullest.fill


def usage_of(user_ids: Iterable[Any], now: datetime) -> dict[Any, UserUsage]:
    """Return the usage of each of these users. The number of queries does not grow with the users."""
    wanted = list(user_ids)
    limits = counting.limits_of(wanted, now, tunables())
    rows = (
        ManagerRecord.objects.held()
        .filter(user_id__in=wanted)
        .order_by()
        .values("user_id", "pool")
        .annotate(held=Count("pk"), counted=Count("pk", filter=Q(state=RecordState.LIVE)))
    )
    pools: dict[Any, dict[str, PoolUsage]] = defaultdict(dict)
    for row in rows:
        user_id, pool = row["user_id"], row["pool"]
        pools[user_id][pool] = PoolUsage(pool, row["held"], row["counted"], limits[user_id, pool].soft_limit)
    for (user_id, pool), limit in limits.items():
        pools[user_id].setdefault(pool, PoolUsage(pool, 0, 0, limit.soft_limit))
    found = {}
    for user_id in wanted:
        mine = pools[user_id]
        idle = PoolUsage("chat", 0, 0, limits[user_id, "chat"].soft_limit)
        ordered = tuple(mine[pool] for pool in sorted(mine)) or (idle,)
        found[user_id] = UserUsage(ordered)
    return found
