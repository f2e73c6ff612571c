"""The transitions of a record: each is conditional, keeps the first reason, and is explained."""

from functools import partial

import pytest
from django.db import IntegrityError, transaction

from connections import database
from connections.models import AuditEntry, ManagerRecord, UserGate
from connections.policy.actor import Actor
from connections.policy.states import CloseReason, RecordState
from connections.records import lifecycle
from connections.records.lifecycle import Ending
from connections.recovery import actions
from tests.support.concurrency import run_concurrently
from tests.support.rows import make_node, make_record, make_user

pytestmark = pytest.mark.django_db(transaction=True)
SYSTEM = Actor.system("web-1")


def order(record: ManagerRecord, reason: CloseReason) -> bool:
    with transaction.atomic():
        return bool(
            lifecycle.order_close(
                ManagerRecord.objects.filter(pk=record.pk), Ending(reason, f"for {reason}", SYSTEM), database.now()
            )
        )


def end(record: ManagerRecord, reason: CloseReason) -> int:
    return lifecycle.end([record.pk], Ending(reason, f"found {reason}", SYSTEM), database.now())


def test_a_closing_record_keeps_its_first_reason_and_its_evidence_names_the_later_one() -> None:
    record = make_record(make_user("ada"), make_node())
    assert order(record, CloseReason.RESET)
    assert not order(record, CloseReason.EVICTED), "the first reason stands"
    assert end(record, CloseReason.NODE_LOST) == 1
    assert end(record, CloseReason.ORPHANED) == 0
    record.refresh_from_db()
    assert (record.state, record.close_reason) == (RecordState.CLOSED, CloseReason.RESET)
    assert record.evidence == "for reset; then node_lost: found node_lost"


def test_of_several_concurrent_ends_of_a_record_only_the_first_succeeds() -> None:
    user, node = make_user("ada"), make_node()
    for _ in range(5):
        record = make_record(user, node)
        reasons = [CloseReason.CLIENT_CLOSED, CloseReason.UNRESPONSIVE, CloseReason.NODE_LOST]
        done = run_concurrently(*[partial(end, record, reason) for reason in reasons])
        assert sorted(done) == [0, 0, 1]
        record.refresh_from_db()
        assert record.close_reason == reasons[done.index(1)]


def test_the_database_itself_refuses_a_record_that_is_closed_without_an_explanation() -> None:
    record = make_record(make_user("ada"), make_node())
    for fields in ({"state": "closed"}, {"state": "closing"}, {"close_reason": "reset"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            ManagerRecord.objects.filter(pk=record.pk).update(**fields)


def test_deleting_a_user_keeps_the_history_of_their_managers() -> None:
    user = make_user("ada")
    record = make_record(user, make_node())
    user.delete()
    record.refresh_from_db()
    assert record.user_id is None


def test_users_can_close_their_own_managers_only() -> None:
    ada, bob, node = make_user("ada"), make_user("bob"), make_node()
    mine, current, theirs = make_record(ada, node), make_record(ada, node), make_record(bob, node)
    done = actions.close_own(ada, [mine.pk, theirs.pk], actor=Actor.user(ada))
    assert done == [mine.pk]
    assert actions.close_own(ada, None, except_id=current.pk, actor=Actor.user(ada)) == []
    theirs.refresh_from_db()
    assert theirs.state == RecordState.LIVE
    assert AuditEntry.objects.filter(action="close_own", user=ada).count() == 2


def test_two_limits_that_are_set_at_once_make_one_gate_and_two_audit_entries() -> None:
    ada = make_user("ada")
    run_concurrently(*[partial(actions.set_limit, ada, "chat", n, reason="busy", actor=SYSTEM) for n in (30, 40)])
    assert UserGate.objects.get(user=ada, pool="chat").soft_limit in (30, 40)
    assert AuditEntry.objects.filter(action="set_limit").count() == 2
