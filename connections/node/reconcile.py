"""The full comparison of a node's records with its registry, both ways, and of its managers with their sessions."""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user_model
from django.utils.module_loading import import_string

from connections import database, metrics
from connections.models import ManagerRecord
from connections.policy.actor import Actor
from connections.policy.states import FAREWELLS, CloseReason
from connections.records import lifecycle
from connections.websocket.manager import Manager

if TYPE_CHECKING:
    from connections.node.runtime import NodeRuntime

logger = logging.getLogger(__name__)


def reconcile(node: "NodeRuntime", node_id: UUID) -> int:
    """Free records without a manager, close managers without a record or a session. Returns how many differed.

    What is younger than a handshake, or still being written, is passed over.
    """
    managers = {m.id: m for m in node.registry.all() if m.admission is not None and not m.closing}
    now = database.now()
    held = dict(ManagerRecord.objects.held().on(node_id).values_list("pk", "opened_at"))
    young = now - timedelta(seconds=node.tunables.handshake_seconds)
    orphans = [
        pk
        for pk, opened_at in held.items()
        if node.registry.get(pk) is None and opened_at < young and not node.writer.is_writing(pk)
    ]
    if orphans:
        lifecycle.end_each(
            orphans,
            CloseReason.ORPHANED,
            "its node does not know it",
            actor=Actor.system(node.name),
            now=now,
        )
    lost = [pk for pk in managers.keys() - held.keys() if not node.writer.is_writing(pk)]
    # Still held: admitted since. Closed: by somebody else. Missing: deleted by somebody's hand.
    there = {pk: (at, why) for pk, at, why in _rows(lost)}
    reasons = {pk: why for pk, (at, why) in there.items() if at is not None}
    reasons |= dict.fromkeys((pk for pk in lost if pk not in there), CloseReason.ORPHANED.value)
    for pk, reason in reasons.items():
        told = CloseReason(reason) if reason in FAREWELLS else CloseReason.ORPHANED
        node.order(managers[pk], told, "its record was closed")
    over = end_sessions(node, [m for pk, m in managers.items() if pk in held])
    drift = len(orphans) + len(reasons)
    for kind, count in (("orphaned", len(orphans)), ("lost", len(reasons)), ("session", over)):
        metrics.drift.labels(kind).inc(count)
    if drift or over:
        logger.info("reconciled", extra={"orphaned": len(orphans), "lost": len(reasons), "sessions": over})
    return drift + over


def end_sessions(node: "NodeRuntime", managers: list[Manager]) -> int:
    """Close those of these whose account or session is no longer good. Returns how many."""
    over = _sessions_over(managers)
    for manager, reason, evidence in over:
        node.order(manager, reason, evidence)
    return len(over)


def reasons_told(ids: Iterable[UUID]) -> dict[UUID, CloseReason]:
    """Of those whose records somebody closes, or has closed, for a reason that is told to clients: which."""
    rows = ManagerRecord.objects.filter(pk__in=list(ids)).values_list("pk", "close_reason")
    return {pk: CloseReason(reason) for pk, reason in rows if reason in FAREWELLS}


def _rows(ids: list[UUID]) -> list[tuple[UUID, datetime | None, str]]:
    return list(ManagerRecord.objects.filter(pk__in=ids).values_list("pk", "closed_at", "close_reason"))


def _sessions_over(managers: list[Manager]) -> list[tuple[Manager, CloseReason, str]]:
    users = _users({m.user_id for m in managers})
    alive = _sessions({m.handshake.session_key for m in managers if m.handshake.session_key})
    over: list[tuple[Manager, CloseReason, str]] = []
    for manager in managers:
        user = users.get(manager.user_id)
        if user is None:
            over.append((manager, CloseReason.SESSION_ENDED, "the account was deleted"))
        elif not user.is_active:
            over.append((manager, CloseReason.ACCOUNT_DISABLED, "the account was deactivated"))
        elif manager.session_hash and not _hash_holds(user, manager.session_hash):
            over.append((manager, CloseReason.SESSION_ENDED, "the password was changed"))
        elif manager.handshake.session_key and manager.handshake.session_key not in alive:
            over.append((manager, CloseReason.SESSION_ENDED, "the session was ended"))
    return over


def _users(ids: set[Any]) -> dict[Any, Any]:
    return dict(get_user_model()._default_manager.in_bulk(list(ids)))


def _hash_holds(user: Any, session_hash: str) -> bool:
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return session_hash in hashes


def _sessions(keys: set[str]) -> set[str]:
    """Which of these sessions still exist, whichever engine keeps them.

    Cookies that are signed are kept by their browsers: nobody can tell, so all of them do. The silence of a cache is
    no evidence either.
    """
    if settings.SESSION_ENGINE.endswith("signed_cookies"):
        return keys
    store = import_string(f"{settings.SESSION_ENGINE}.SessionStore")
    if getattr(store, "get_model_class", None) is not None and "cached" not in settings.SESSION_ENGINE:
        model = store.get_model_class()
        found = model.objects.filter(session_key__in=keys, expire_date__gt=database.now())
        return set(found.values_list("session_key", flat=True))
    try:
        return {key for key in keys if store(key).exists(key)}
    except database.AWAY:
        raise
    except Exception:
        logger.exception("sessions_not_known", extra={"engine": settings.SESSION_ENGINE})
        return keys
