"""Compare all of a node's records with its registry, both ways, and its managers with their sessions."""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user_model
from django.utils.module_loading import import_string

from connections import database, metrics
from connections.models import ManagerRecord
from connections.node.parts import NodeParts
from connections.policy.actor import Actor
from connections.policy.states import CloseReason, is_sent
from connections.records import lifecycle
from connections.records.lifecycle import Ending
from connections.websocket.manager import Manager

logger = logging.getLogger(__name__)


def reconcile(parts: NodeParts, node_id: UUID) -> int:
    """Free records that have no manager; close managers that have no record or no session. Returns how many differed.

    Records younger than a handshake, and managers that the writer still writes, are passed over.
    """
    managers = {m.id: m for m in parts.registry.all() if m.admission is not None and not m.closing}
    now = database.now()
    held = dict(ManagerRecord.objects.held().on(node_id).values_list("pk", "opened_at"))
    orphans = _free_orphans(parts, held, now)
    lost = _close_lost(parts, managers, held)
    ended = close_ended_sessions(parts, [m for pk, m in managers.items() if pk in held])
    for kind, count in (("orphaned", orphans), ("lost", lost), ("session", ended)):
        metrics.drift.labels(kind).inc(count)
    if orphans or lost or ended:
        logger.info("reconciled", extra={"orphaned": orphans, "lost": lost, "sessions": ended})
    return orphans + lost + ended


def _free_orphans(parts: NodeParts, held: dict[UUID, datetime], now: datetime) -> int:
    """Free records without a manager. Returns how many."""
    handshake_ago = now - timedelta(seconds=parts.tunables.handshake_seconds)
    orphans = [
        pk
        for pk, opened_at in held.items()
        if parts.registry.get(pk) is None and opened_at < handshake_ago and not parts.writer.is_writing(pk)
    ]
    if orphans:
        actor = Actor.system(parts.identity.name)
        lifecycle.end_each(orphans, Ending(CloseReason.ORPHANED, "its node does not know it", actor), now)
    return len(orphans)


def _close_lost(parts: NodeParts, managers: dict[UUID, Manager], held: dict[UUID, datetime]) -> int:
    """Close managers whose record is closed or deleted. Returns how many."""
    lost = [pk for pk in managers.keys() - held.keys() if not parts.writer.is_writing(pk)]
    rows = {pk: (closed_at, reason) for pk, closed_at, reason in _rows(lost)}
    # A row without `closed_at` was admitted since `held` was read; a missing row was deleted by hand.
    reasons = {pk: reason for pk, (closed_at, reason) in rows.items() if closed_at is not None}
    reasons |= dict.fromkeys((pk for pk in lost if pk not in rows), CloseReason.ORPHANED.value)
    for pk, reason in reasons.items():
        sent = CloseReason(reason) if is_sent(reason) else CloseReason.ORPHANED
        parts.order_close(managers[pk], sent, "its record was closed")
    return len(reasons)


def close_ended_sessions(parts: NodeParts, managers: list[Manager]) -> int:
    """Close those of these managers whose account or session has ended. Returns how many."""
    ended = _ended_sessions(managers)
    for manager, reason, evidence in ended:
        parts.order_close(manager, reason, evidence)
    return len(ended)


def close_reasons_of(ids: Iterable[UUID]) -> dict[UUID, CloseReason]:
    """The close reasons of these records, closing or closed, as far as clients may be sent them."""
    rows = ManagerRecord.objects.filter(pk__in=list(ids)).values_list("pk", "close_reason")
    return {pk: CloseReason(reason) for pk, reason in rows if is_sent(reason)}


def _rows(ids: list[UUID]) -> list[tuple[UUID, datetime | None, str]]:
    return list(ManagerRecord.objects.filter(pk__in=ids).values_list("pk", "closed_at", "close_reason"))


def _ended_sessions(managers: list[Manager]) -> list[tuple[Manager, CloseReason, str]]:
    users = _users({m.user_id for m in managers})
    existing = _existing_sessions({m.handshake.session_key for m in managers if m.handshake.session_key})
    ended: list[tuple[Manager, CloseReason, str]] = []
    for manager in managers:
        user = users.get(manager.user_id)
        if user is None:
            ended.append((manager, CloseReason.SESSION_ENDED, "the account was deleted"))
        elif not user.is_active:
            ended.append((manager, CloseReason.ACCOUNT_DISABLED, "the account was deactivated"))
        elif manager.session_hash and not _hash_holds(user, manager.session_hash):
            ended.append((manager, CloseReason.SESSION_ENDED, "the password was changed"))
        elif manager.handshake.session_key and manager.handshake.session_key not in existing:
            ended.append((manager, CloseReason.SESSION_ENDED, "the session was ended"))
    return ended


def _users(ids: set[Any]) -> dict[Any, Any]:
    return dict(get_user_model()._default_manager.in_bulk(list(ids)))


def _hash_holds(user: Any, session_hash: str) -> bool:
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return session_hash in hashes


def _existing_sessions(keys: set[str]) -> set[str]:
    """The keys of sessions that still exist, whichever engine keeps them.

    A signed cookie is kept by its browser, so every one counts as existing. A cache that does not answer is no evidence
    that a session has ended.
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
    except Exception:  # an engine raises whatever its store does; then no session counts as ended
        logger.exception("session_engine_failed", extra={"engine": settings.SESSION_ENGINE})
        return keys
