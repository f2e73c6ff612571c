"""The writer while other transactions hold locks, on a real PostgreSQL: nobody waits for what he does not need."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from pytest_django import DjangoDbBlocker

from connections import database
from connections.conf import Tunables
from connections.models import ManagerRecord, RecoveryRun
from connections.policy.states import CloseReason, RecordState, Refused
from connections.records.writer import Writer
from tests.support.databases import Database
from tests.support.default_database import default_database
from tests.support.locks import held, no_lock_waits, records_of
from tests.support.rows import make_gate, make_node, make_record, make_records, make_user
from tests.support.writers import LEFT, admitted, running_writer, shake, until_written

VALUES = replace(Tunables(), soft_limit=3, burst=2, beat_seconds=1.0, admission_seconds=3.0)


@pytest.fixture
def server(postgres_database: Database, django_db_blocker: DjangoDbBlocker) -> Iterator[Database]:
    with django_db_blocker.unblock(), default_database(postgres_database.url):
        yield postgres_database


@pytest.fixture
def writer(server: Database) -> Iterator[Writer]:
    with running_writer(VALUES) as made:
        yield made


def test_locked_records_delay_no_handshake_of_others_and_end_after_the_lock(server: Database, writer: Writer) -> None:
    ada, bob = make_user("ada"), make_user("bob")
    tabs = make_records(60, ada, make_node("other"))
    with held(server, *records_of(ada)), no_lock_waits(server):
        for tab in tabs:
            writer.release(tab.pk, *LEFT)
        for _ in range(30):
            admitted(writer.admit(shake(bob)))
        assert writer.backlog() == 60
    until_written(writer)
    assert ManagerRecord.objects.filter(user=ada, close_reason=CloseReason.CLIENT_CLOSED).count() == 60


def test_a_device_is_admitted_beside_its_locked_record_and_a_run_is_opened(server: Database, writer: Writer) -> None:
    ada, device = make_user("ada"), uuid.uuid4()
    old = make_record(ada, make_node("other"), device=device)
    with held(server, *records_of(ada)), no_lock_waits(server):
        admission = admitted(writer.admit(shake(ada, device)))
    assert (admission.live, admission.replaced) == (2, None)
    assert ManagerRecord.objects.get(pk=old.pk).state == RecordState.LIVE
    assert RecoveryRun.objects.open().filter(user=ada).count() == 1


def test_at_the_ceiling_a_locked_record_is_passed_over_for_the_next_by_rank(server: Database, writer: Writer) -> None:
    ada = make_user("ada")
    rows = [make_record(ada, make_node(f"web-{n}"), age=60 - n) for n in range(5)]
    one = "SELECT 1 FROM connections_managerrecord WHERE id = %s FOR UPDATE"
    with held(server, one, [rows[0].pk]), no_lock_waits(server):
        assert admitted(writer.admit(shake(ada))).evicted == rows[1].pk
    assert ManagerRecord.objects.counted().filter(user=ada).count() == 5


def test_where_nothing_can_make_room_the_client_is_told_in_time_to_come_back(server: Database, writer: Writer) -> None:
    ada, bob = make_user("ada"), make_user("bob")
    make_records(5, ada, make_node("other"))
    with held(server, *records_of(ada)), no_lock_waits(server):
        waiting = writer.admit(shake(ada))
        admitted(writer.admit(shake(bob)))
        assert waiting.result(10) is Refused.TRY_AGAIN
    assert ManagerRecord.objects.held().filter(user=ada).count() == 5
    assert admitted(writer.admit(shake(ada))).evicted


def test_a_newcomer_that_has_left_before_its_gate_was_free_takes_no_slot(server: Database, writer: Writer) -> None:
    ada = make_user("ada")
    make_gate(ada)
    living = make_records(5, ada, make_node("other"))
    handshake = shake(ada)
    with held(server, "SELECT 1 FROM connections_usergate WHERE user_id = %s FOR UPDATE", [ada.pk]):
        decision = writer.admit(handshake)
        time.sleep(0.2)
        writer.release(handshake.id, *LEFT)
        assert decision.result(5) is Refused.TRY_AGAIN
    until_written(writer)
    assert ManagerRecord.objects.counted().filter(user=ada).count() == len(living)
    assert not ManagerRecord.objects.filter(pk=handshake.id).exists()


def test_a_gate_that_another_transaction_is_creating_keeps_only_its_own_user(server: Database, writer: Writer) -> None:
    ada, bob = make_user("ada"), make_user("bob")
    insert = "INSERT INTO connections_usergate (user_id, pool, reason, set_by) VALUES (%s, 'chat', '', '')"
    with held(server, insert, [ada.pk]):
        first, second = writer.admit(shake(ada)), writer.admit(shake(bob))
        admitted(second)
        assert not first.done()
    admitted(first)


def test_a_run_that_another_transaction_is_opening_keeps_no_admission(server: Database, writer: Writer) -> None:
    ada = make_user("ada")
    make_records(3, ada, make_node("other"))
    insert = """INSERT INTO connections_recoveryrun (id, user_id, user_label, kind, dry_run, step, actor_kind, actor,
        reason, opened_at, due_at, outcome, stock, findings, error) VALUES (gen_random_uuid(), %s, '', 'cleanup', false,
        'take_stock', 'system', '', '', now(), now(), '', '[]', '[]', '')"""
    with held(server, insert, [ada.pk]):
        assert admitted(writer.admit(shake(ada))).open_run
    assert ManagerRecord.objects.counted().filter(user=ada).count() == 4


def test_a_lock_on_the_table_costs_no_round_and_no_ending(server: Database, writer: Writer) -> None:
    ada, bob = make_user("ada"), make_user("bob")
    tabs = make_records(40, ada, make_node("other"))
    longest, seen = 0.0, writer.last_round
    with held(server, "LOCK TABLE connections_managerrecord IN SHARE MODE"):
        for tab in tabs:
            writer.release(tab.pk, *LEFT)
        waiting = [writer.admit(shake(bob)) for _ in range(20)]
        until = time.monotonic() + 4
        while time.monotonic() < until:
            time.sleep(0.01)
            longest = max(longest, time.monotonic() - writer.last_round)
        assert all(decision.result(1) is Refused.TRY_AGAIN for decision in waiting)
        assert writer.failing_since is not None
        assert writer.failure
    assert writer.last_round > seen
    assert longest < VALUES.lease_seconds / 2, f"a round took {longest:.1f} s"
    admitted(writer.admit(shake(bob)))
    until_written(writer)
    assert ManagerRecord.objects.closed().filter(user=ada).count() == 40
    assert writer.failing_since is None


def test_a_row_that_makes_the_database_wait_goes_alone(server: Database, writer: Writer) -> None:
    ada, bob = make_user("ada"), make_user("bob")
    slow = make_record(ada, make_node("other"))
    body = f"BEGIN IF OLD.user_id = {ada.pk} THEN PERFORM pg_sleep(5); END IF; RETURN NEW; END"
    with database.current().cursor() as cursor:
        cursor.execute(f"CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$")
        cursor.execute(
            "CREATE TRIGGER slow BEFORE UPDATE ON connections_managerrecord FOR EACH ROW EXECUTE FUNCTION slow()"
        )
    writer.release(slow.pk, *LEFT)
    for _ in range(20):
        admitted(writer.admit(shake(bob)))
    assert writer.is_writing(slow.pk)
    with database.current().cursor() as cursor:
        cursor.execute("DROP TRIGGER slow ON connections_managerrecord")
    until_written(writer, 40)  # its pauses have grown
