"""The rounds of a beat: none does more than its budget allows, and what is left goes on in the next, in turn."""

import time
from datetime import datetime
from typing import Any

import psycopg
import pytest
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from prometheus_client import REGISTRY

from connections import database
from connections.models import ManagerRecord, Refusal
from connections.node.beat import Beat
from connections.policy.states import CloseReason, ProbeMode, RecordState, Refused, Verdict
from connections.websocket.manager import Manager
from connections.websocket.probe import Probe
from tests.support.bad_rows import unwritable
from tests.support.databases import Database
from tests.support.quiet_node import bulk_records, closing_fields, quiet_node, spent
from tests.support.rows import make_node, make_user

ORDERS = 5000
MANY = 2000
LONG = 60.0  # seconds of a beat, so that on a busy machine none passes within the test
STATEMENTS = 40  # of one round, whatever its work
ROUNDS = MANY // 200 + 5  # until each of MANY had its turn


def test_no_round_does_more_than_a_slice_of_each_step(postgres: Database) -> None:
    ada, wanted = make_user("ada"), {"probe_wanted_at": database.now(), "probe_mode": ProbeMode.REPORT}
    with quiet_node(make_node(), reconcile_seconds=0.05, beat_seconds=LONG) as node:
        kicked = node.manage_all(bulk_records(ORDERS, ada, node.row, **closing_fields()))
        for manager in kicked:
            manager.written_facts = (manager.last_active_at, None, None, None)
        asked = node.manage_all(bulk_records(MANY, ada, node.row, **wanted))
        orphans = ManagerRecord.objects.filter(pk__in=[record.pk for record in bulk_records(MANY, ada, node.row)])
        beat, orders = Beat(node.parts, ring_recovery=lambda: None, budget=spent), orders_carried_out()
        counts: list[int] = []
        while not counts or beat.goes_on or orphans.held().exists():
            with CaptureQueriesContext(database.current()) as statements:
                beat()
            counts.append(len(statements))
            node.turn_loop()
            assert len(counts) <= ROUNDS, "some step makes no progress"
        assert max(counts) <= STATEMENTS
        assert all(manager.closing for manager in kicked)
        assert orders_carried_out() - orders == ORDERS, "each order was carried out once"
        assert ManagerRecord.objects.filter(probe_verdict=Verdict.ALIVE).count() == MANY
        assert not any(manager.probe for manager in asked)
        assert orphans.filter(close_reason=CloseReason.ORPHANED).count() == MANY
        assert ManagerRecord.objects.filter(last_active_at__gt=F("opened_at")).count() == MANY, "what changed, too"


def test_the_rest_of_a_beat_is_left_when_a_round_took_what_it_may(postgres: Database) -> None:
    with quiet_node(make_node(), beat_seconds=LONG) as node:
        node.manage_all(bulk_records(500, make_user("ada"), node.row))
        beat = Beat(node.parts, ring_recovery=lambda: None, budget=spent)
        beat_seconds = node.parts.tunables.beat_seconds
        beat()
        assert beat.next_round() <= beat_seconds / 4, "300 managers that changed are left"
        beat()
        beat()
        assert beat.next_round() == beat_seconds


def test_each_of_many_busy_managers_has_its_turn(postgres: Database) -> None:
    """Managers that change all the time: those at the start of the line do not keep those at its end."""
    with quiet_node(make_node(), beat_seconds=LONG) as node:
        managers = node.manage_all(bulk_records(1000, make_user("ada"), node.row))
        beat = Beat(node.parts, ring_recovery=lambda: None, budget=spent)
        for _ in range(5):
            for manager in managers:
                manager.last_active_at = node.parts.clock.now()
            beat()
        assert all(manager.written_facts for manager in managers)


def test_orders_are_carried_out_and_other_tables_written_while_the_records_are_locked(postgres: Database) -> None:
    """A CREATE INDEX of somebody else takes this lock: reads go on, and each write of a record would wait."""
    ada, wanted = make_user("ada"), {"probe_wanted_at": database.now(), "probe_mode": ProbeMode.REPORT}
    with quiet_node(make_node(), reconcile_seconds=0.0) as node:
        (kicked,) = node.manage_all(bulk_records(1, ada, node.row, **closing_fields()))
        (asked,) = node.manage_all(bulk_records(1, ada, node.row, **wanted))
        (orphan,) = bulk_records(1, ada, node.row)
        node.parts.limiter.refusals.add(ada.pk, Refused.RATE_LIMITED, 1.0)
        beat = Beat(node.parts, ring_recovery=lambda: None)
        with psycopg.connect(postgres.url) as stranger:
            stranger.execute("LOCK TABLE connections_managerrecord IN SHARE MODE")
            for _ in range(2):  # in the second, there is a verdict to write
                with pytest.raises(database.Busy):
                    beat()
                node.turn_loop()
            assert kicked.closing
            assert probe_of(asked).verdict is Verdict.ALIVE
            assert Refusal.objects.get().count == 1
        beat()
        assert asked.probe is None
        orphan.refresh_from_db()
        assert (orphan.state, orphan.close_reason) == (RecordState.CLOSED, CloseReason.ORPHANED)
        assert asked.written_facts


def test_a_beat_in_vain_costs_a_few_statements(postgres: Database) -> None:
    with quiet_node(make_node(), beat_seconds=LONG) as node:
        node.manage_all(bulk_records(100, make_user("ada"), node.row))
        beat = Beat(node.parts, ring_recovery=lambda: None)
        beat()
        with CaptureQueriesContext(database.current()) as statements:
            beat()
        assert len(statements) == 2, "orders and probes"


def test_words_of_a_newer_version_end_no_pass(postgres: Database) -> None:
    ada, wanted = make_user("ada"), {"probe_wanted_at": database.now()}
    with quiet_node(make_node()) as node:
        blocked = node.manage_all(bulk_records(1, ada, node.row, **closing_fields("blocked")))[0]
        reset = node.manage_all(bulk_records(9, ada, node.row, **closing_fields()))
        strange = node.manage_all(bulk_records(1, ada, node.row, probe_mode="freeze", **wanted))[0]
        closing = node.manage_all(bulk_records(1, ada, node.row, probe_mode=ProbeMode.CLOSE, **wanted))[0]
        (unknown,) = bulk_records(1, ada, node.row, probe_mode="freeze", **wanted)
        beat = Beat(node.parts, ring_recovery=lambda: None)
        beat()
        node.turn_loop()
        assert all(manager.closing for manager in reset)
        assert blocked._order == ("blocked", "a reset")  # what its client is sent
        assert probe_of(strange).mode is ProbeMode.REPORT, "it is answered, and closes nothing"
        assert probe_of(closing).mode is ProbeMode.CLOSE
        beat()
        assert answered() == {strange.id, closing.id, unknown.pk}
        assert ManagerRecord.objects.held().filter(pk=unknown.pk).exists(), "nor is its record freed for it"


def test_a_row_that_cannot_be_written_keeps_no_other(postgres: Database) -> None:
    ada, now, mode = make_user("ada"), database.now(), ProbeMode.REPORT
    with quiet_node(make_node(), reconcile_seconds=0.0) as node:
        asked = node.manage_all(bulk_records(50, ada, node.row, probe_wanted_at=now, probe_mode=mode))
        orphans = bulk_records(50, ada, node.row)
        beat = Beat(node.parts, ring_recovery=lambda: None)
        bad = {asked[20].id, orphans[20].pk}
        with unwritable(orphans[20], columns=""):
            beat()
            node.turn_loop()
            beat()
        left = set(ManagerRecord.objects.held().values_list("pk", flat=True)) - {manager.id for manager in asked}
        assert left == {orphans[20].pk}
        with unwritable(ManagerRecord.objects.get(pk=asked[20].id), columns="probe_verdict, last_active_at"):
            ManagerRecord.objects.update(probe_answered_at=None)
            for manager in asked:
                manager.last_active_at, manager.written_facts = node.parts.clock.now(), ()
                node.parts.keepalive.begin_probe(manager, now, mode)
            time.sleep(0.01)
            Beat(node.parts, ring_recovery=lambda: None)()
            assert answered() == {manager.id for manager in asked} - bad
            changed = ManagerRecord.objects.filter(last_active_at__gt=F("opened_at"))
            assert changed.count() >= len(asked) - 1


def test_a_locked_row_holds_up_no_other_answer_and_is_answered_later(postgres: Database) -> None:
    wanted = {"probe_wanted_at": database.now(), "probe_mode": ProbeMode.CLOSE}
    with quiet_node(make_node()) as node:
        locked, free = node.manage_all(bulk_records(2, make_user("ada"), node.row, **wanted))
        beat = Beat(node.parts, ring_recovery=lambda: None)
        beat()
        node.turn_loop()
        with psycopg.connect(postgres.url) as stranger:
            stranger.execute("SELECT 1 FROM connections_managerrecord WHERE id = %s FOR UPDATE", [locked.id])
            beat()
            assert answered() == {free.id}
            assert free.probe is None
        beat()
        assert answered() == {locked.id, free.id}
        assert locked.probe is None


def test_refusals_are_written_in_slices_and_a_lock_loses_none(postgres: Database) -> None:
    with quiet_node(make_node()) as node:
        for number in range(1200):
            node.parts.limiter.refusals.add(number, Refused.RATE_LIMITED, 1.0)
        beat = Beat(node.parts, ring_recovery=lambda: None, budget=spent)
        with psycopg.connect(postgres.url) as stranger:
            stranger.execute("LOCK TABLE connections_refusal IN SHARE MODE")
            with pytest.raises(database.Busy):
                beat()
        for written in (500, 1000, 1200):
            beat()
            assert Refusal.objects.count() == written


@pytest.mark.django_db(transaction=True)
def test_a_beat_that_waited_for_a_lock_writes_the_right_last_activity(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waited = database.now, 0.3

    def late() -> datetime:
        time.sleep(waited)  # as if it waited for SQLite's write lock
        return now()

    with quiet_node(make_node()) as node:
        (record,) = bulk_records(1, make_user("ada"), node.row)
        node.manage(record).last_active_at = node.parts.clock.now() - 5
        monkeypatch.setattr("connections.database.now", late)
        since = now()
        Beat(node.parts, ring_recovery=lambda: None)()
    record.refresh_from_db()
    assert abs((since - record.last_active_at).total_seconds() - 5) < waited / 2


def orders_carried_out() -> float:
    return REGISTRY.get_sample_value("connections_kick_seconds_count") or 0.0


def probe_of(manager: Manager) -> Probe:
    assert manager.probe is not None
    return manager.probe


def answered() -> set[Any]:
    return set(ManagerRecord.objects.exclude(probe_answered_at=None).values_list("pk", flat=True))
