"""Counted records of users, as the facts that policy decides by."""

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from connections.conf import Tunables
from connections.models import ManagerRecord
from connections.policy.admission import Holding


def counted_holdings(
    user_ids: set[Any], now: datetime, tunables: Tunables, but: Collection[UUID] = ()
) -> dict[tuple[Any, str], list[Holding]]:
    """Return the counted records of these users as policy's facts, by (user, pool), without the ids in `but`."""
    late = now - timedelta(seconds=tunables.late_seconds)
    found: dict[tuple[Any, str], list[Holding]] = defaultdict(list)
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
            Holding(
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
