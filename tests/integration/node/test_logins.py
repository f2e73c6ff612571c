"""The checks of accounts and sessions: in slices, within a budget, and an error closes nobody."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.test.utils import CaptureQueriesContext

from connections import database
from connections.node.logins import LoginCheck, Logins, ended_accounts, ended_sessions
from connections.node.session_engine import session_engine
from connections.policy.states import CloseReason
from connections.websocket.manager import Manager
from tests.support.caches import FarCache
from tests.support.odd_sessions import SessionStore as OddStore
from tests.support.quiet_node import QuietNode, quiet_node, spent
from tests.support.rows import make_node, make_record, make_user

PREFIX = "django.contrib.sessions.cache"
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def node() -> Iterator[QuietNode]:
    with quiet_node(make_node(), reconcile_seconds=0.0) as node:
        yield node


@pytest.fixture
def cached(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    settings.CACHES = {"default": {"BACKEND": "tests.support.caches.FarCache", "OPTIONS": {"MAX_ENTRIES": 10_000}}}
    FarCache.calls.clear()
    yield monkeypatch
    caches["default"].clear()


def sessions_of(node: QuietNode, **options: Any) -> LoginCheck:
    return LoginCheck(node.parts, "sessions", ended_sessions, batches=lambda: session_engine().batches, **options)


def sockets(node: QuietNode, user: User, keys: list[str]) -> list[Manager]:
    record = make_record(user, node.row)
    managers = []
    for key in keys:
        record.pk = None
        record.id = record._meta.pk.get_default()  # the checks read no rows of ours
        managers.append(node.manage(record, session_key=key))
    return managers


def closed(node: QuietNode, managers: list[Manager]) -> list[int]:
    node.turn_loop()
    return [number for number, manager in enumerate(managers) if manager.closing]


def test_thousands_of_accounts_are_read_in_slices(node: QuietNode) -> None:
    users = User.objects.bulk_create(User(username=f"u{n}", password="x", is_active=n != 7) for n in range(2000))
    managers = [sockets(node, user, [""])[0] for user in users]
    managers[11].session_hash = "of a password of before"
    managers[12].session_hash = users[12].get_session_auth_hash()
    User.objects.filter(pk=users[3].pk).delete()
    check = LoginCheck(node.parts, "accounts", ended_accounts, budget=spent)
    for _ in range(4):
        with CaptureQueriesContext(database.current()) as statements:
            check.round()
        assert len(statements) == 1
    assert closed(node, managers) == [3, 7, 11]
    assert managers[7]._order == (CloseReason.ACCOUNT_DISABLED, "the account was deactivated")


def test_thousands_of_sessions_are_a_few_calls(node: QuietNode, cached: pytest.MonkeyPatch) -> None:
    keys = [f"key{number}" for number in range(2000)]
    caches["default"].set_many({PREFIX + key: {} for key in keys if key != "key1234"})
    managers = sockets(node, make_user("ada"), keys)
    sessions_of(node).round()
    assert FarCache.calls == ["get_many"] * 4
    assert closed(node, managers) == [1234]


def test_a_cache_that_is_away_is_no_evidence(node: QuietNode, cached: pytest.MonkeyPatch) -> None:
    managers = sockets(node, make_user("ada"), [f"key{number}" for number in range(20)])
    cached.setattr(FarCache, "broken", True)
    check = sessions_of(node)
    check.round()
    assert closed(node, managers) == []
    cached.setattr(FarCache, "broken", False)
    check.round()
    assert len(closed(node, managers)) == 20, "none of these sessions was ever there"


def test_a_session_that_cannot_be_read_keeps_no_other(node: QuietNode, cached: pytest.MonkeyPatch) -> None:
    caches["default"].set_many({f"{PREFIX}good": {}, f"{PREFIX}bad": {}})
    managers = sockets(node, make_user("ada"), ["good", "bad", "ended"] * 100)
    cached.setattr(FarCache, "poisoned", {"bad"})
    check = sessions_of(node)
    check.round()
    check.round()
    assert closed(node, managers) == list(range(2, 300, 3))


def test_an_engine_asked_one_by_one_goes_on_where_it_stopped(
    node: QuietNode, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SESSION_ENGINE = "tests.support.odd_sessions"
    monkeypatch.setattr(OddStore, "asked", [])
    monkeypatch.setattr(OddStore, "there", {"a", "b", "d"})
    monkeypatch.setattr(OddStore, "broken", {"b"})
    managers = sockets(node, make_user("ada"), ["a", "b", "c", "d", "e"])
    check = sessions_of(node, budget=spent)
    for _ in range(5):
        check.round()
    assert OddStore.asked == ["a", "b", "c", "d", "e"]
    assert closed(node, managers) == [2, 4]


def test_a_log_out_goes_before_all_others(node: QuietNode, cached: pytest.MonkeyPatch) -> None:
    ada, bob = make_user("ada"), make_user("bob")
    others = sockets(node, bob, [f"key{number}" for number in range(1500)])
    caches["default"].set_many({f"{PREFIX}key{number}": {} for number in range(1500)})
    check = sessions_of(node, budget=spent)
    check.round()
    left = sockets(node, ada, ["logged-out"])
    check.ask(str(ada.pk))
    check.round()
    assert closed(node, left) == [0]
    assert closed(node, others) == []


def test_a_hanging_session_engine_delays_neither_accounts_nor_the_end(
    node: QuietNode, cached: pytest.MonkeyPatch
) -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(*_: Any, **__: Any) -> dict[str, Any]:
        hangs.set()
        goes_on.wait(30)
        return {}

    cached.setattr(FarCache, "get_many", hang)
    ada = make_user("ada")
    managers = sockets(node, ada, ["key"])
    logins = Logins(node.parts)
    logins.start()
    try:
        assert hangs.wait(10)
        User.objects.filter(pk=ada.pk).update(is_active=False)
        logins.check(str(ada.pk))
        deadline = time.monotonic() + 10
        while not closed(node, managers) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert closed(node, managers) == [0]
        began = time.monotonic()
        logins.stop()
        assert time.monotonic() - began < 1
    finally:
        goes_on.set()
        for thread in logins._threads:
            assert thread.stop(10)


def test_while_an_engine_is_asked_no_connection_is_taken_for_frozen(
    node: QuietNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def asks(managers: list[Manager]) -> Iterator[Any]:
        said.append("asks its store")
        yield from ()

    monkeypatch.setattr(database, "idle", lambda: said.append("no statement runs"))
    sockets(node, make_user("ada"), ["key"])
    LoginCheck(node.parts, "sessions", asks).round()
    assert said == ["no statement runs", "asks its store"]
