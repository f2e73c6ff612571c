"""The writer's group commit: many handshakes at once under one gate, and a bad row that fails only one handshake."""

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace

import pytest
from django.contrib.auth.models import User
from django.db import connection

from connections import database
from connections.conf import Tunables
from connections.models import ManagerRecord, Node, RecoveryRun
from connections.policy.admission import Admission, Handshake
from connections.policy.states import CloseReason, Refused
from connections.records.queue import GATHER_SECONDS
from connections.records.writer import Writer
from tests.support.rows import closed_record, make_node, make_record, make_user

pytestmark = pytest.mark.django_db(transaction=True)
FAST = replace(Tunables(), beat_seconds=0.2)
Decision = Future[Admission | Refused]


@pytest.fixture
def writers() -> Iterator[list[Writer]]:
    """The writers of two nodes on one database."""
    made = [Writer(FAST, lambda batch: None) for _ in range(2)]
    for number, writer in enumerate(made):
        writer.node_id = make_node(f"web-{number}").pk
        writer.start()
    yield made
    for writer in made:
        assert writer.stop(10)


def shake(user: User, **fields: object) -> Handshake:
    return Handshake(uuid.uuid4(), user.pk, "chat", **fields)  # type: ignore[arg-type]


def test_fifty_at_once_on_two_nodes_never_count_above_the_ceiling(writers: list[Writer]) -> None:
    ada = make_user("ada")
    futures = [writers[n % 2].admit(shake(ada)) for n in range(50)]
    decisions = [future.result(10) for future in futures]
    assert all(isinstance(d, Admission) for d in decisions)
    assert ManagerRecord.objects.counted().filter(user=ada).count() == 25
    assert ManagerRecord.objects.closing().filter(close_reason=CloseReason.EVICTED).count() == 25
    assert RecoveryRun.objects.open().count() == 1


def test_handshakes_that_come_within_a_moment_share_a_transaction() -> None:
    committed: list[object] = []
    writer = Writer(FAST, committed.append)
    writer.node_id = make_node().pk
    ada, began = make_user("ada"), time.monotonic()
    writer.start()
    try:
        futures = []
        for _ in range(20):
            futures.append(writer.admit(shake(ada)))
            time.sleep(0.004)
        assert all(isinstance(future.result(10), Admission) for future in futures)
        assert len(committed) <= (time.monotonic() - began) / GATHER_SECONDS + 1
    finally:
        assert writer.stop(10)


def test_a_release_never_overtakes_its_own_admission(writers: list[Writer]) -> None:
    ada = make_user("ada")
    decisions: dict[uuid.UUID, Decision] = {}
    for _ in range(20):
        handshake = shake(ada)
        decisions[handshake.id] = writers[0].admit(handshake)
        time.sleep(0.01)  # so that some are in a batch already
        writers[0].release(handshake.id, CloseReason.CLIENT_CLOSED, "left at once")
    assert writers[0].stop(10)
    admitted = {pk for pk, decision in decisions.items() if isinstance(decision.result(5), Admission)}
    assert set(ManagerRecord.objects.closed().values_list("pk", flat=True)) == admitted
    assert ManagerRecord.objects.held().count() == 0


def test_a_bad_row_fails_one_handshake_and_delays_nobody(writers: list[Writer]) -> None:
    ada, bob = make_user("ada"), make_user("bob")
    taken = shake(ada)
    assert isinstance(writers[0].admit(taken).result(5), Admission)
    doubled = writers[0].admit(taken)  # the same key a second time, which the database refuses
    others = [writers[0].admit(shake(bob)) for _ in range(5)]
    assert doubled.result(5) is Refused.TRY_AGAIN
    assert all(isinstance(other.result(5), Admission) for other in others)


def test_a_user_who_is_gone_or_disabled_is_refused_and_holds_nothing(writers: list[Writer]) -> None:
    off, ada = make_user("off", is_active=False), make_user("ada")
    gone = Handshake(uuid.uuid4(), 987_654, "chat")
    decisions = [writers[0].admit(h).result(5) for h in (shake(off), gone, shake(ada))]
    assert decisions[:2] == [Refused.ACCOUNT_DISABLED] * 2
    assert isinstance(decisions[2], Admission)
    assert ManagerRecord.objects.count() == 1


def test_a_fenced_node_admits_nobody(writers: list[Writer]) -> None:
    Node.objects.filter(name="web-0").update(fenced_at=database.now())
    assert writers[0].admit(shake(make_user("ada"))).result(5) is Refused.TRY_AGAIN
    assert ManagerRecord.objects.count() == 0


def test_users_whose_keys_begin_alike_are_not_confused(writers: list[Writer]) -> None:
    users = {user.pk: user for user in (make_user(f"u{n}") for n in range(12))}
    one, ten = users[min(users)], users[max(users)]
    for _ in range(25):
        writers[0].admit(shake(ten)).result(5)
    admission = writers[0].admit(shake(one)).result(5)
    assert isinstance(admission, Admission)
    assert (admission.live, admission.evicted) == (1, None)


def test_the_queries_of_admission_sweep_and_beat_use_their_partial_indexes() -> None:
    users, nodes = [make_user(f"u{n}") for n in range(20)], [make_node(f"web-{n}") for n in range(20)]
    ada, node = users[0], nodes[0]
    for user in users:
        for place in nodes[:10]:
            make_record(user, place)
            closed_record(user, place)
    for _ in range(20):
        closed_record(ada, node)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    held, flags = ManagerRecord.objects.held(), ManagerRecord.objects.closing().on(node.pk)
    for rows, index in (
        (held.filter(user_id=ada.pk), "record_held_by_user"),
        (held.on(node.pk), "record_held_by_node"),
        (flags, "record_closing"),
        (ManagerRecord.objects.probe_wanted().on(node.pk), "record_probe_wanted"),
    ):
        assert index in rows.explain(), f"{index}: {rows.explain()}"
