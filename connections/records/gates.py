"""The gates of admissions: one row per user and pool. They are created beforehand, and locked in (user, pool) order."""

import logging
from collections.abc import Sequence
from typing import Any

from connections import database
from connections.models import UserGate
from connections.policy.admission import Handshake

logger = logging.getLogger(__name__)


def ensure(pairs: set[tuple[Any, str]]) -> None:
    """Create the missing gates, in autocommit. Concurrent calls create one row.

    While another transaction creates some of them, the others are created one by one; after two time-outs the rest is
    left to the next batch. A handshake without a gate waits like one whose gate is locked.
    """
    users = {user_id for user_id, _ in pairs}
    known = set(UserGate.objects.filter(user_id__in=users).values_list("user_id", "pool"))
    missing = [UserGate(user_id=user_id, pool=pool) for user_id, pool in sorted(pairs - known, key=repr)]
    if not missing:
        return
    try:
        UserGate.objects.bulk_create(missing, ignore_conflicts=True)
    except database.Busy as error:
        logger.warning("gates_found_lock", extra={"error": str(error), "gates": len(missing)})
        _create_one_by_one(missing)


def _create_one_by_one(missing: list[UserGate]) -> None:
    timed_out = 0
    for gate in missing:
        try:
            UserGate.objects.bulk_create([gate], ignore_conflicts=True)
        except database.Busy:
            timed_out += 1
            if timed_out == 2:
                return


def lock(handshakes: Sequence[Handshake]) -> dict[tuple[Any, str], UserGate]:
    """Lock those gates of these handshakes that no other transaction holds, by (user, pool).

    Each keeps what its route says that its limits are, for the sweep and the console.
    """
    pairs = {(h.user_id, h.pool) for h in handshakes}
    rows = (
        UserGate.objects.filter(user_id__in={user_id for user_id, _ in pairs}, pool__in={pool for _, pool in pairs})
        .order_by("user_id", "pool")
        .select_for_update(skip_locked=True)
    )
    locked = {(gate.user_id, gate.pool): gate for gate in rows if (gate.user_id, gate.pool) in pairs}
    for handshake in handshakes:
        gate = locked.get((handshake.user_id, handshake.pool))
        own = (handshake.soft_limit, handshake.burst)
        if gate is not None and (gate.route_soft_limit, gate.route_burst) != own:
            gate.route_soft_limit, gate.route_burst = own
            gate.save(update_fields=["route_soft_limit", "route_burst"])
    return locked
