"""The writer and errors that look like another's lock, or like a lost server, on a real PostgreSQL."""

import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from unittest import mock

import psycopg
import pytest
from pytest_django import DjangoDbBlocker

from connections import database
from connections.conf import Tunables
from connections.models import ManagerRecord
from connections.records import lifecycle
from connections.records.writer import Writer
from tests.support.databases import Database
from tests.support.default_database import default_database
from tests.support.locks import held
from tests.support.rows import make_node, make_record, make_records, make_user
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


def test_nobody_is_evicted_for_one_that_was_told_to_close_meanwhile(server: Database, writer: Writer) -> None:
    ada = make_user("ada")
    rows = [make_record(ada, make_node(f"web-{n}"), age=60 - n) for n in range(5)]
    lock_available, closed = lifecycle.lock_available, list[bool]()

    def after_a_close(ids: Iterable[uuid.UUID], **options: bool) -> set[uuid.UUID]:
        wanted = set(ids)
        if wanted and not closed:
            closed.append(True)
            with psycopg.connect(server.url) as staff:
                staff.execute(
                    "UPDATE connections_managerrecord SET state = 'closing', closing_at = now(), "
                    "close_reason = 'closed_by_staff' WHERE id = %s",
                    [rows[4].pk],
                )
        return lock_available(wanted, **options)

    with mock.patch.object(lifecycle, "lock_available", after_a_close):
        assert admitted(writer.admit(shake(ada))).evicted is None
    assert ManagerRecord.objects.counted().filter(user=ada).count() == 5


def test_endings_go_on_within_a_beat_after_a_long_lock_on_the_table(server: Database, writer: Writer) -> None:
    tabs = make_records(3, make_user("ada"), make_node("other"))
    with held(server, "LOCK TABLE connections_managerrecord IN SHARE MODE"):
        for tab in tabs:
            writer.release(tab.pk, *LEFT)
        for _ in range(40):
            writer.release(uuid.uuid4(), *LEFT)  # its record is closed already, so nothing has to be locked
            time.sleep(0.2)
    unlocked = time.monotonic()
    until_written(writer)
    assert time.monotonic() - unlocked < 2


def test_a_row_with_an_error_like_a_lost_servers_keeps_nobody_else(server: Database, writer: Writer) -> None:
    ada, bob = make_user("ada"), make_user("bob")
    bad = make_record(ada, make_node("other"))
    raised = "RAISE EXCEPTION 'could not read block' USING ERRCODE = '58030'"
    body = f"BEGIN IF OLD.user_id = {ada.pk} THEN {raised}; END IF; RETURN NEW; END"
    with database.current().cursor() as cursor:
        cursor.execute(f"CREATE FUNCTION bad() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$")
        cursor.execute(
            "CREATE TRIGGER bad BEFORE UPDATE ON connections_managerrecord FOR EACH ROW EXECUTE FUNCTION bad()"
        )
    writer.release(bad.pk, *LEFT)
    for _ in range(10):
        admitted(writer.admit(shake(bob)))
    assert writer.is_writing(bad.pk)
