"""The rows that a node writes each beat, also while another program locks a row or SQLite's whole database."""

import time
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest
from pytest_django import DjangoDbBlocker

from connections import database
from connections.conf import Tunables
from connections.models import ManagerRecord
from connections.node.beat import Beat
from connections.policy.states import ProbeMode, Verdict
from connections.websocket.clock import NodeClock
from connections.websocket.probe import Probe
from tests.support.databases import Database
from tests.support.default_database import default_database
from tests.support.rows import make_node, make_record, make_user


def test_a_locked_row_holds_up_no_other_answer_and_is_answered_later(
    postgres_database: Database, django_db_blocker: DjangoDbBlocker
) -> None:
    with django_db_blocker.unblock(), default_database(postgres_database.url), database.own_connection(0.2):
        ada, node, wanted_at = make_user("ada"), make_node(), database.now()
        records = [make_record(ada, node, probe_wanted_at=wanted_at, probe_mode=ProbeMode.CLOSE) for _ in range(2)]
        locked, free = (asked(record, wanted_at) for record in records)
        registry = SimpleNamespace(all=lambda: [locked, free])
        beat = Beat(cast("Any", SimpleNamespace(registry=registry)), ring_recovery=lambda: None)
        with psycopg.connect(postgres_database.url) as stranger:
            stranger.execute("SELECT 1 FROM connections_managerrecord WHERE id = %s FOR UPDATE", [locked.id])
            beat.answer_probes()
            assert answered() == {free.id}
            assert free.probe is None
        beat.answer_probes()
        assert answered() == {locked.id, free.id}
        assert locked.probe is None


@pytest.mark.django_db(transaction=True)
def test_a_beat_that_waited_for_a_lock_writes_the_right_last_activity(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waited = database.now, 0.3

    def late() -> datetime:
        time.sleep(waited)  # as if it waited for SQLite's write lock
        return now()

    clock, record = NodeClock(), make_record(make_user("ada"), node := make_node(), age=0)
    silent = SimpleNamespace(
        id=record.pk, admission=object(), ended=None, last_active_at=clock.now() - 5, pinged_at=None,
        inbound=SimpleNamespace(busy_since=None), turn_began=None, written_facts=(),
    )  # fmt: skip
    host = SimpleNamespace(registry=SimpleNamespace(all=lambda: [silent]), clock=clock, tunables=Tunables())
    monkeypatch.setattr("connections.database.now", late)
    since = now()
    Beat(cast("Any", host), ring_recovery=lambda: None).write_changes(node.pk)
    record.refresh_from_db()
    assert abs((since - record.last_active_at).total_seconds() - 5) < waited / 2


def asked(record: ManagerRecord, wanted_at: Any) -> Any:
    """A fake manager whose client has answered a roll call."""
    probe = Probe(wanted_at, ProbeMode.CLOSE, 0.0)
    probe.answer(Verdict.ALIVE, "answered the roll call")
    return SimpleNamespace(id=record.pk, probe=probe)


def answered() -> set[Any]:
    return set(ManagerRecord.objects.exclude(probe_answered_at=None).values_list("pk", flat=True))
