"""Whom to admit, and whom to close for it: pure functions over facts.

Times are datetimes on the database's clock.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

MIN_SECONDS_LEFT = 0.5  # for the admission of a handshake whose authentication took almost all of its time


@dataclass(frozen=True, slots=True)
class CountedRecord:
    """One counted record, as admission and eviction need it."""

    id: UUID
    opened_at: datetime
    last_active_at: datetime
    on_late_node: bool = False
    overdue: bool = False
    turn: bool = False
    device: UUID | None = None
    attempt: int = 0


def rank(records: Iterable[CountedRecord]) -> list[CountedRecord]:
    """Sort by rank, victims first: on a late node, overdue for a pong, no agent turn in flight, least recently active.

    The id breaks ties, so that two nodes choose the same victim from the same rows.
    """
    return sorted(records, key=lambda r: (not r.on_late_node, not r.overdue, r.turn, r.last_active_at, r.id))


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a manager tells the writer to be admitted."""

    id: UUID
    user_id: Any
    pool: str
    soft_limit: int | None = None  # the route's, if it has its own
    burst: int | None = None
    device: UUID | None = None
    attempt: int = 0
    session_key: str = ""
    ip: str | None = None
    user_agent: str = ""
    waited: float = 0.0  # seconds since it began: authentication may have waited for the database too

    def seconds_left(self, admission_seconds: float) -> float:
        """How long its admission may take, so that its client is told in time to come back."""
        return max(MIN_SECONDS_LEFT, admission_seconds - self.waited)


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A handshake that asks for a slot."""

    id: UUID
    device: UUID | None
    attempt: int


@dataclass(frozen=True, slots=True)
class Admission:
    """The decision on a handshake. `live` counts the newcomer too.

    `replaced` is the older record of the same device, `evicted` the one that ranked first at the ceiling;
    `superseded` says that the newcomer itself lost to a younger connect of its device, and then nothing changes.
    """

    live: int
    soft_limit: int
    ceiling: int
    replaced: UUID | None = None
    evicted: UUID | None = None
    superseded: bool = False
    open_run: bool = False
    costs_two: bool = False
    at: datetime | None = None  # on the database's clock


def admit(
    newcomer: Newcomer,
    counted: Sequence[CountedRecord],
    *,
    soft_limit: int,
    burst: int,
    now: datetime,
    handshake: timedelta,
    enforce: bool = True,
    unclosable: Collection[UUID] = (),
) -> Admission | None:
    """Decide one admission over the counted records of one user and pool. Never refuses.

    `unclosable`: the records that are locked or can't be written. They are passed over by rank, and a device's new
    connect is admitted beside its old record. None: at the ceiling, and nothing can make room now; try again.
    """
    ceiling = soft_limit + burst
    others = list(counted)
    same = [h for h in others if h.device == newcomer.device] if newcomer.device is not None and enforce else []
    if any(h.attempt > newcomer.attempt and now - h.opened_at < handshake for h in same):
        return Admission(len(others), soft_limit, ceiling, superseded=True, at=now)
    replaced, evicted = _first_closable(same, unclosable), None
    others = [h for h in others if h.id != replaced]
    if enforce and len(others) >= ceiling:
        evicted = _first_closable(others, unclosable)
        if evicted is None:
            return None
        others = [h for h in others if h.id != evicted]
    over = len(others) + 1 > soft_limit
    beside = any(h.id in unclosable for h in same)  # then the run closes what could not be replaced
    return Admission(
        len(others) + 1,
        soft_limit,
        ceiling,
        replaced=replaced,
        evicted=evicted,
        open_run=(over or beside) and enforce,
        costs_two=over and replaced is None and not any(h.on_late_node for h in counted),
        at=now,
    )


def _first_closable(records: Iterable[CountedRecord], unclosable: Collection[UUID]) -> UUID | None:
    ranked = rank(record for record in records if record.id not in unclosable)
    return ranked[0].id if ranked else None


def excess(counted: Sequence[CountedRecord], soft_limit: int, unclosable: Collection[UUID] = ()) -> list[CountedRecord]:
    """The records to evict to be back at the soft limit: by rank, exactly as many as needed, among those closable."""
    closable = [record for record in counted if record.id not in unclosable]
    return rank(closable)[: max(0, len(counted) - soft_limit)]
