"""Which sessions still exist, whichever engine keeps them: asked in batches, where the engine is one of Django's."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends import cache, cached_db, db, signed_cookies
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import router
from django.utils.module_loading import import_string

from connections import database


@dataclass(frozen=True, slots=True)
class SessionEngine:
    """`existing` returns those of these session keys whose session exists, or raises whatever its store raises."""

    existing: Callable[[set[str]], set[str]]
    batches: bool = True  # whether many keys cost little more than one


def session_engine() -> SessionEngine:
    """The engine of the project's settings.

    Django's own are told by their `exists`, which a subclass may have replaced; then only that knows what exists.
    """
    store: Any = import_string(f"{settings.SESSION_ENGINE}.SessionStore")
    if issubclass(store, signed_cookies.SessionStore):
        return SessionEngine(set)  # a cookie is kept by its browser, so every one counts as existing
    if store.exists is cache.SessionStore.exists:
        return SessionEngine(partial(_in_cache, store))
    if store.exists is cached_db.SessionStore.exists:
        return SessionEngine(partial(_in_cache_or_database, store))
    if store.exists is db.SessionStore.exists or _keeps_rows(store):
        return SessionEngine(partial(_in_database, store))
    return SessionEngine(partial(_by_exists, store), batches=False)


def _keeps_rows(store: Any) -> bool:
    """Whether an engine of a package keeps Django's kind of rows, and no cache beside them."""
    model = store.get_model_class() if hasattr(store, "get_model_class") else None
    return isinstance(model, type) and issubclass(model, AbstractBaseSession) and not hasattr(store, "cache_key_prefix")


def _in_cache(store: Any, keys: set[str]) -> set[str]:
    engine = store()
    prefixed = {engine.cache_key_prefix + key: key for key in keys}
    return {prefixed[name] for name in engine._cache.get_many(list(prefixed))}


def _in_cache_or_database(store: Any, keys: set[str]) -> set[str]:
    found = _in_cache(store, keys)
    return found | _in_database(store, keys - found)


def _in_database(store: Any, keys: set[str]) -> set[str]:
    if not keys:
        return set()
    model = store.get_model_class()
    # A replica may not have the session of a moment ago.
    rows = model.objects.using(router.db_for_write(model)).filter(session_key__in=keys, expire_date__gt=database.now())
    return set(rows.values_list("session_key", flat=True))


def _by_exists(store: Any, keys: set[str]) -> set[str]:
    return {key for key in keys if store(key).exists(key)}
