"""A user's own sessions: list the open ones and the last ended ones, and sign out. Synchronous."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.utils import timezone

from connections.conf import tunables
from connections.models import ManagerRecord
from connections.models.routing import users
from connections.policy.actor import Actor
from connections.records import counting
from connections.recovery import actions

POOL = "chat"  # the pool of the chat's route in asgi.py
ENDINGS = 5


def open_sessions(user_id: Any, current: UUID | None) -> list[dict[str, Any]]:
    """`{id, current, opened_at, last_active_at, ip, user_agent}` each, the last active first. Sessions that are
    closing are left out.
    """
    rows = ManagerRecord.objects.counted().filter(user_id=user_id).order_by("-last_active_at", "id")
    return [
        {
            "id": str(row.id),
            "current": row.id == current,
            "opened_at": row.opened_at.isoformat(),
            "last_active_at": row.last_active_at.isoformat(),
            "ip": row.ip,
            "user_agent": row.user_agent,
        }
        for row in rows
    ]


def soft_limit(user_id: Any) -> int:
    return counting.limits_of({user_id}, timezone.now(), tunables())[user_id, POOL].soft_limit


def recent_endings(user_id: Any) -> list[dict[str, Any]]:
    """`{opened_at, closed_at, reason, ip, user_agent}` of the last ENDINGS sessions that ended, the latest first."""
    rows = ManagerRecord.objects.closed().filter(user_id=user_id).order_by("-opened_at")[: ENDINGS * 4]
    latest = sorted(rows, key=lambda row: row.closed_at, reverse=True)[:ENDINGS]
    return [
        {
            "opened_at": row.opened_at.isoformat(),
            "closed_at": row.closed_at.isoformat(),
            "reason": row.close_reason,
            "ip": row.ip,
            "user_agent": row.user_agent,
        }
        for row in latest
    ]


def close(user_id: Any, ids: list[UUID] | None, current: UUID, wanted: Callable[[], bool] = lambda: True) -> list[UUID]:
    """Sign out the user's sessions with these ids, or with None all but `current`. Returns the ids that were
    open. Other users' ids are ignored. Audited with the user as the actor. Raises actions.Obsolete.
    """
    user = users().get(pk=user_id)
    ip = ManagerRecord.objects.filter(id=current, user_id=user_id).values_list("ip", flat=True).first()
    except_id = current if ids is None else None
    return actions.close_own(user, ids, except_id=except_id, actor=Actor.user(user, ip), wanted=wanted)
