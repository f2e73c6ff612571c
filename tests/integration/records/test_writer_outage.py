"""What an outage leaves in the writer's queue, and a record that can't be written."""

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from connections import database
from connections.conf import Tunables
from connections.models import ManagerRecord
from connections.policy.admission import Admission, Handshake
from connections.policy.states import RecordState, Refused
from connections.records.queue import Admit, WriteQueue
from connections.records.writer import Writer
from tests.support.bad_rows import unwritable
from tests.support.rows import make_node, make_record, make_user
from tests.support.writers import LEFT, admitted, failing_at_first, running_writer, shake, until_written

pytestmark = pytest.mark.django_db(transaction=True)
VALUES = replace(Tunables(), soft_limit=3, burst=2, beat_seconds=0.4, admission_seconds=2.0)


@pytest.fixture
def writer() -> Iterator[Writer]:
    with running_writer(VALUES) as made:
        yield made


class Away:
    """While it lasts, every transaction fails at its beginning as it does when the server is gone."""

    def __enter__(self) -> None:
        self._patch = mock.patch.object(BaseDatabaseWrapper, "set_autocommit", side_effect=OperationalError("gone"))
        self._patch.start()

    def __exit__(self, *error: object) -> None:
        self._patch.stop()


def test_an_outage_leaves_nothing_of_handshakes_that_were_given_up(writer: Writer) -> None:
    ada = make_user("ada")
    living = make_record(ada, make_node("other"))
    with Away():
        writer.release(living.pk, *LEFT)
        for _ in range(3):
            futures = [writer.admit(shake(ada)) for _ in range(200)]
            for future in futures:
                future.cancel()
        told = writer.admit(shake(ada))
        assert told.result(10) is Refused.TRY_AGAIN
        time.sleep(0.3)
        assert writer.backlog() == 1, "only the ending of the record that lives in the database waits"
        assert writer.failing_since is not None
    assert isinstance(writer.admit(shake(ada)).result(5), Admission)
    until_written(writer)
    assert ManagerRecord.objects.count() == 2
    assert writer.failing_since is None


def test_newcomers_go_before_endings_and_endings_go_on() -> None:
    queue = WriteQueue(0.1)
    for _ in range(1000):
        queue.put_release(uuid.uuid4(), mock.sentinel.release)
    newcomers = [Handshake(uuid.uuid4(), n, "chat") for n in range(500)]
    for handshake in newcomers:
        queue.put_admission(Admit(handshake, Future(), time.monotonic() + 60))
    first, second = take(queue), take(queue)
    assert [item.id for item in first if item.admit] == [h.id for h in newcomers[:150]]
    assert [item.id for item in second if item.admit] == [h.id for h in newcomers[150:300]]
    assert len(first) == len(second) == 200


def take(queue: WriteQueue) -> list[Any]:
    items = queue.take(0.0)
    for item in items:
        queue.done(item)
    return items


def test_endings_of_a_newcomers_user_go_with_it() -> None:
    queue, mine = WriteQueue(0.1), uuid.uuid4()
    for _ in range(1000):
        queue.put_release(uuid.uuid4(), mock.sentinel.release, "bob")
    queue.put_release(mine, mock.sentinel.release, "ada")
    queue.put_admission(Admit(Handshake(uuid.uuid4(), "ada", "chat"), Future(), time.monotonic() + 60))
    assert mine in [item.id for item in queue.take(0.0)]


def test_a_handshake_whose_commit_nobody_learned_of_holds_no_slot(writer: Writer) -> None:
    ada = make_user("ada")
    commit = BaseDatabaseWrapper.commit
    lost: list[bool] = []

    def commit_and_lose_the_answer(wrapper: BaseDatabaseWrapper) -> None:
        commit(wrapper)
        if ManagerRecord.objects.exists() and not lost:
            lost.append(True)
            raise OperationalError("the server closed the connection unexpectedly")

    with mock.patch.object(BaseDatabaseWrapper, "commit", commit_and_lose_the_answer):
        decision = writer.admit(shake(ada)).result(10)
    until_written(writer)
    assert lost
    assert decision is Refused.TRY_AGAIN
    assert ManagerRecord.objects.get().state == RecordState.CLOSED


def test_a_victim_that_cannot_be_written_is_passed_over_for_the_next_by_rank(writer: Writer) -> None:
    ada = make_user("ada")
    rows = [make_record(ada, make_node(f"web-{n}"), age=60 - n) for n in range(5)]
    with unwritable(rows[0]):
        for victim in rows[1:3]:
            admission = writer.admit(shake(ada)).result(10)
            assert isinstance(admission, Admission)
            assert admission.evicted == victim.pk
    assert ManagerRecord.objects.counted().filter(user=ada).count() == 5


def test_a_writer_that_gets_no_connection_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [2]
    monkeypatch.setattr(database, "own_connection", failing_at_first(times))
    with running_writer(VALUES) as writer:
        admitted(writer.admit(shake(make_user("ada"))))
    assert times == [0]


def test_time_that_authentication_took_is_not_waited_for_again(writer: Writer) -> None:
    writer.node_id, began = None, time.monotonic()
    late = replace(shake(make_user("ada")), waited=1.5)
    assert writer.admit(late).result(5) is Refused.TRY_AGAIN
    assert time.monotonic() - began < VALUES.admission_seconds - 0.5
