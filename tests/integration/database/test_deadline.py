"""The watcher over frozen connections goes on, whatever one connection does to it."""

import socket

import pytest
from django.db import close_old_connections

from connections import database
from connections.database import deadline as module
from connections.database.deadline import Deadline
from tests.support.databases import Database
from tests.support.default_database import default_database


def unwatchable() -> int | None:
    raise ValueError("what a driver raises for a connection that is being closed")


def test_a_connection_that_can_not_be_looked_at_leaves_the_others_watched(caplog: pytest.LogCaptureFixture) -> None:
    here, there = socket.socketpair()
    with here, there:
        good = Deadline(here.fileno, 0.8)
        good.move()
        bad = Deadline(unwatchable, 0.0)
        bad.move()
        here.settimeout(5)
        assert here.recv(1) == b"", "the watcher should have ended the frozen connection"
    for one in (bad, good):
        one.close()
    assert "database_deadline_failed" in caplog.messages


def test_a_watcher_that_ended_is_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_thread", None)
    here, there = socket.socketpair()
    with here, there:
        watched = Deadline(here.fileno, 0.1)
        module._thread = None  # as after a fork, or an end of the thread
        watched.move()
        here.settimeout(5)
        assert here.recv(1) == b""
        watched.close()


@pytest.mark.django_db
def test_django_checks_no_connection_past_its_deadline(
    postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with default_database(postgres_database.url, CONN_HEALTH_CHECKS=True), database.own_connection(1.0):
        database.now()
        monkeypatch.setattr(type(database.current()), "is_usable", lambda self: pytest.fail("it has no deadline"))
        close_old_connections()
        database.now()
