"""A bad row, handshake or run affects no other. Each case here once broke the engine."""

import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from connections import database
from connections.conf import Tunables, tunables
from connections.models import ManagerRecord, RecoveryRun
from connections.policy.actor import Actor
from connections.policy.admission import Admission, Handshake
from connections.policy.states import CloseReason, Outcome, RecordState, Refused, RunKind
from connections.records import lifecycle
from connections.records.lifecycle import Ending
from connections.records.writer import Writer
from connections.recovery import runs
from connections.recovery.findings import report
from connections.recovery.open_runs import OpenRuns
from tests.support.bad_rows import unwritable
from tests.support.concurrency import run_concurrently
from tests.support.rows import lost_node, make_gate, make_node, make_record, make_records, make_user

pytestmark = pytest.mark.django_db(transaction=True)
FAST = replace(Tunables(), beat_seconds=0.2)
STAFF = Actor.command("support")


@pytest.fixture
def writer() -> Iterator[Writer]:
    made = Writer(FAST, lambda batch: None)
    made.node_id = make_node("web-1").pk
    made.start()
    yield made
    assert made.stop(10)


def test_a_user_key_that_no_column_takes_fails_one_handshake_and_the_writer_goes_on(writer: Writer) -> None:
    guest = writer.admit(Handshake(uuid.uuid4(), "guest-1", "chat"))
    assert guest.result(5) is Refused.TRY_AGAIN
    ada = writer.admit(Handshake(uuid.uuid4(), make_user("ada").pk, "chat"))
    assert isinstance(ada.result(5), Admission)


def test_releases_make_room_for_handshakes_of_the_same_batch(writer: Writer) -> None:
    ada = make_user("ada")
    handshakes = [Handshake(uuid.uuid4(), ada.pk, "chat") for _ in range(25)]
    for handshake in handshakes:
        writer.admit(handshake).result(5)
    writer.node_id, node_id = None, writer.node_id  # so that both wait for the next batch
    newcomer = writer.admit(Handshake(uuid.uuid4(), ada.pk, "chat"))
    writer.release(handshakes[-1].id, CloseReason.CLIENT_CLOSED, "left")
    writer.node_id = node_id
    admission = newcomer.result(5)
    assert isinstance(admission, Admission)
    assert (admission.live, admission.evicted) == (25, None)


def test_a_release_that_cannot_be_written_holds_up_no_other_and_is_tried_again(writer: Writer) -> None:
    ada = make_user("ada")
    bad, good = (Handshake(uuid.uuid4(), ada.pk, "chat") for _ in range(2))
    for handshake in (bad, good):
        writer.admit(handshake).result(5)
    with unwritable(ManagerRecord.objects.get(pk=bad.id)):
        writer.release(bad.id, CloseReason.CLIENT_CLOSED, "left")
        writer.release(good.id, CloseReason.CLIENT_CLOSED, "left")
        _until(lambda: ManagerRecord.objects.get(pk=good.id).state == RecordState.CLOSED)
        assert writer.is_writing(bad.id)
    _until(lambda: ManagerRecord.objects.get(pk=bad.id).state == RecordState.CLOSED)
    assert not writer.is_writing(bad.id)


def test_a_recovery_frees_all_other_records_and_names_the_one_that_it_could_not_free() -> None:
    ada = make_user("ada")
    make_gate(ada)
    make_node("witness")
    bad, *others = make_records(5, ada, lost_node())
    with unwritable(bad):
        run, _ = runs.request(ada, RunKind.CLEANUP, actor=STAFF, reason="stuck")
        run = runs.advance(run.pk)
        _due(run, past_waiting=True)
        run = runs.advance(run.pk)
    assert (run.outcome, report(run)["freed"]) == (Outcome.PARTIAL, {"node_lost": 4})
    assert [f["id"] for f in run.findings if f["action"] == "unconfirmed"] == [str(bad.pk)]
    assert ManagerRecord.objects.closed().count() == len(others)


def test_an_eviction_takes_the_next_by_rank_for_a_record_that_cannot_be_closed() -> None:
    ada, node = make_user("ada"), make_node()
    make_gate(ada, soft_limit=2)
    bad, second, *rest = [make_record(ada, node, age=60 - n) for n in range(4)]
    with unwritable(bad):
        run, _ = runs.request(ada, RunKind.CLEANUP, actor=STAFF, reason="over")
        runs.advance(run.pk)
        ManagerRecord.objects.exclude(pk=bad.pk).update(probe_answered_at=database.now(), probe_verdict="alive")
        _due(run, past_waiting=True)
        runs.advance(run.pk)
    assert set(ManagerRecord.objects.closing()) == {second, rest[0]}
    assert set(ManagerRecord.objects.counted()) == {bad, rest[1]}


def test_a_reset_closes_all_records_but_the_bad_one() -> None:
    ada = make_user("ada")
    make_gate(ada)
    bad, *others = make_records(5, ada, make_node())
    with unwritable(bad):
        run, _ = runs.request(ada, RunKind.RESET, actor=STAFF, reason="stuck")
        runs.advance(run.pk)
    assert set(ManagerRecord.objects.closing()) == set(others)


def test_a_run_that_cannot_go_on_holds_up_no_other() -> None:
    ada, bob = make_user("ada"), make_user("bob")
    bad, _ = runs.request(ada, RunKind.CLEANUP, actor=STAFF, reason="first")
    RecoveryRun.objects.filter(pk=bad.pk).update(step="no such step")
    good, _ = runs.request(bob, RunKind.CLEANUP, actor=STAFF, reason="second")
    OpenRuns(tunables()).advance()
    good.refresh_from_db()
    assert good.outcome == Outcome.NOTHING_TO_DO


def test_ending_many_records_with_one_bad_row_ends_each_other_record_once() -> None:
    ada, node = make_user("ada"), make_node()
    bad, *others = make_records(6, ada, node)
    with unwritable(bad):

        def end() -> int:
            ids = [bad.pk, *(record.pk for record in others)]
            return lifecycle.end_each(ids, Ending(CloseReason.ORPHANED, "lost", STAFF), database.now())[0]

        assert sum(run_concurrently(end, end)) == 5
    assert make_record(ada, node).state == RecordState.LIVE


def _due(run: RecoveryRun, *, past_waiting: bool) -> None:
    from datetime import timedelta

    shift = timedelta(seconds=2 * tunables().lease_seconds + 1 if past_waiting else 0)
    run.refresh_from_db()
    assert run.roll_call_at is not None
    RecoveryRun.objects.filter(pk=run.pk).update(due_at=database.now(), roll_call_at=run.roll_call_at - shift)


def _until(check: object, within: float = 10) -> None:
    import time

    deadline = time.monotonic() + within
    while not check():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)
