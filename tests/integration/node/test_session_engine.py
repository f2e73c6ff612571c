"""Which sessions exist, by each session engine: in as few calls as the engine allows."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.core.cache import caches
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connections import database
from connections.node.session_engine import session_engine
from tests.support.caches import FarCache
from tests.support.odd_sessions import SessionStore as OddStore

DJANGO = "django.contrib.sessions.backends"
KEYS = {f"key{number:029}" for number in range(2000)}
THERE = {key for key in KEYS if key.endswith(("0", "1"))}


@pytest.fixture(autouse=True)
def far_cache(settings: Any) -> Iterator[None]:
    settings.CACHES = {"default": {"BACKEND": "tests.support.caches.FarCache", "OPTIONS": {"MAX_ENTRIES": 10_000}}}
    FarCache.calls.clear()
    yield
    caches["default"].clear()


def put_in_cache(keys: set[str], prefix: str) -> None:
    caches["default"].set_many({prefix + key: {"user": 1} for key in keys})


def put_in_database(keys: set[str], *, expires_in: float = 3600) -> None:
    expires = timezone.now() + timedelta(seconds=expires_in)
    Session.objects.bulk_create(Session(session_key=key, session_data="", expire_date=expires) for key in keys)


@pytest.mark.django_db
def test_sessions_of_the_database_are_read_in_one_statement(settings: Any) -> None:
    settings.SESSION_ENGINE = f"{DJANGO}.db"
    put_in_database(THERE)
    put_in_database({"expired"}, expires_in=-1)
    with CaptureQueriesContext(database.current()) as statements:
        assert session_engine().existing(KEYS | {"expired"}) == THERE
    assert len(statements) == 1


def test_sessions_of_a_cache_are_one_call(settings: Any) -> None:
    """2,000 keys, asked one by one at 1 ms, took 2.2 s of the beat."""
    settings.SESSION_ENGINE = f"{DJANGO}.cache"
    put_in_cache(THERE, "django.contrib.sessions.cache")
    assert session_engine().existing(KEYS) == THERE
    assert FarCache.calls == ["get_many"]


@pytest.mark.django_db
def test_sessions_of_a_cached_database_are_one_call_and_one_statement(settings: Any) -> None:
    settings.SESSION_ENGINE = f"{DJANGO}.cached_db"
    cached = {key for key in THERE if key.endswith("0")}
    put_in_cache(cached, "django.contrib.sessions.cached_db")
    put_in_database(THERE - cached)
    with CaptureQueriesContext(database.current()) as statements:
        assert session_engine().existing(KEYS) == THERE
    assert (FarCache.calls, len(statements)) == (["get_many"], 1)


def test_a_signed_cookie_counts_as_existing(settings: Any) -> None:
    settings.SESSION_ENGINE = f"{DJANGO}.signed_cookies"
    assert session_engine().existing(KEYS) == KEYS


@pytest.mark.parametrize("engine", ["tests.support.odd_sessions", "tests.support.strict_sessions"])
def test_an_engine_with_an_exists_of_its_own_is_asked_by_it(
    engine: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SESSION_ENGINE = engine
    monkeypatch.setattr(OddStore, "there", {"there"})
    asked: Any = session_engine()
    assert asked.existing({"there", "gone"}) == {"there"}
    assert not asked.batches
