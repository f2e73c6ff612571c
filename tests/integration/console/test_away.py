"""Answers while the database is away: another connection holds SQLite's write lock."""

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from connections.models import RecoveryRun
from connections.recovery import runs
from tests.support import rows
from tests.support.staff import HTMX, Login

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="locks a whole database"),
    pytest.mark.usefixtures("impatient"),
]
FORMS: dict[str, dict[str, str]] = {
    "check": {},
    "recover": {"reason": "why"},
    "reset": {"reason": "why", "confirm": "ada"},
    "limit": {"reason": "why", "pool": "chat", "soft_limit": "5"},
}


@pytest.fixture
def staff(log_in: Login) -> Client:
    """A superuser: after a transactional test the groups of the migration are gone."""
    return log_in(rows.make_user("root", is_superuser=True))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give up waiting for SQLite's write lock at once."""
    connection.close()
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "timeout", 0.05)
    yield
    connection.close()


@contextlib.contextmanager
def write_lock() -> Iterator[None]:
    name = connection.settings_dict["NAME"]
    with contextlib.closing(sqlite3.connect(name, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@pytest.mark.parametrize("verb", FORMS)
def test_while_the_database_is_away_actions_ask_staff_to_try_again(
    staff: Client, ada: User, verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = f"/console/users/{ada.pk}/{verb}/"
    with write_lock():
        page = staff.post(path, FORMS[verb])
        part = staff.post(path, FORMS[verb], headers=HTMX)
    assert (page.status_code, part.status_code) == (503, 503)
    assert "<h1>Try again in a moment</h1>" in page.content.decode()
    assert part.content.decode().startswith('<p class="notice error"')
    assert "The database does not answer." in part.content.decode()
    assert [entry.message for entry in caplog.records].count("audit_not_written") == 2
    assert staff.post(path, FORMS[verb]).status_code == 303


def people() -> dict[str, Any]:
    return {"user_ids": [rows.make_user(name).pk for name in ("ada", "bob", "cyd")], "reason": "storm"}


def test_a_bulk_recovery_stops_when_the_database_goes_away_and_names_the_users_left_out(
    staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = runs.request
    with contextlib.ExitStack() as lock:

        def request_then_lock(*args: Any, **kwargs: Any) -> Any:
            done = real(*args, **kwargs)
            lock.enter_context(write_lock())
            return done

        monkeypatch.setattr(runs, "request", request_then_lock)
        text = staff.post("/console/users/recover/", people(), headers=HTMX).content.decode()
    assert "<p>1 recovery opened.</p>" in text
    assert "2 were left out: bob, cyd." in text
    assert RecoveryRun.objects.get().user_label == "ada"


def test_a_bulk_recovery_that_could_not_begin_claims_no_recovery(staff: Client) -> None:
    given = people()
    with write_lock():
        assert staff.post("/console/users/recover/", given).status_code == 503
    assert not RecoveryRun.objects.exists()
