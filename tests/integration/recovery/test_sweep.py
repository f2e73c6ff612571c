"""The sweep: frees what is proven dead, opens runs, sets a bad row aside, and prunes history."""

from datetime import timedelta

import pytest

from connections import database
from connections.conf import tunables
from connections.models import AuditEntry, ManagerRecord, Node, RecoveryRun
from connections.policy.states import ActorKind, CloseReason, RecordState
from connections.records.pruning import prune
from connections.recovery.sweep import sweep, would_sweep
from tests.support.bad_rows import unwritable
from tests.support.concurrency import run_concurrently
from tests.support.rows import (
    closed_record,
    lost_node,
    make_gate,
    make_node,
    make_records,
    make_run,
    make_user,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_sweep_fences_frees_and_explains() -> None:
    ada = make_user("ada")
    dead = make_node("web-2", silent=60)
    make_records(150, ada, dead)
    make_node("witness")
    assert would_sweep(tunables()).freed == {"node_lost": 150}
    assert ManagerRecord.objects.counted().count() == 150
    swept = sweep(tunables(), "witness")
    assert (swept.as_json(), swept.fenced) == ({"freed": {"node_lost": 150}, "failed": 0}, 1)
    record = ManagerRecord.objects.closed()[0]
    assert "node web-2 was fenced" in record.evidence
    assert record.actor == "witness"


def test_two_sweeps_at_once_free_each_record_once() -> None:
    ada = make_user("ada")
    make_node("witness")
    make_records(120, ada, lost_node())
    swept = run_concurrently(*[lambda: sweep(tunables(), "witness")] * 2)
    assert sum(s.freed.total() for s in swept) == 120


def test_a_record_that_can_not_be_freed_is_set_aside_and_the_sweep_goes_on() -> None:
    ada = make_user("ada")
    make_node("witness")
    bad, *_ = make_records(5, ada, lost_node())
    with unwritable(bad):
        swept = sweep(tunables(), "witness")
        again = sweep(tunables(), "witness")
    assert (swept.freed.total(), swept.failed) == (4, 1)
    assert (again.freed.total(), again.failed) == (0, 0), "it is left alone for a while"
    bad.refresh_from_db()
    assert bad.state == RecordState.LIVE
    assert "bad row" in bad.sweep_error


def test_a_sweep_opens_one_run_for_each_user_over_the_limit_in_force() -> None:
    node, ada, bob, eve = make_node(), make_user("ada"), make_user("bob"), make_user("eve")
    now = database.now()
    make_gate(ada, soft_limit=2)
    make_gate(bob, soft_limit=30)
    make_gate(eve, soft_limit=30, expires_at=now - timedelta(seconds=1))
    make_records(3, ada, node)
    make_records(22, bob, node)
    make_records(21, eve, node)
    assert sweep(tunables(), "web-1").runs_opened == 2
    assert sweep(tunables(), "web-1").runs_opened == 0
    assert set(RecoveryRun.objects.open().values_list("user__username", flat=True)) == {"ada", "eve"}


def test_old_history_is_pruned_and_the_audit_trail_only_on_request() -> None:
    ada, old = make_user("ada"), 40 * 86_400.0
    node = make_node(started_at=database.now(), retired_at=database.now() - timedelta(days=40))
    closed_record(ada, node, CloseReason.CLIENT_CLOSED, ago=old)
    kept = closed_record(ada, make_node("web-2"), CloseReason.CLIENT_CLOSED, ago=60)
    make_run(ada, ago=old, finished_at=database.now() - timedelta(days=40), outcome="recovered")
    AuditEntry.objects.create(at=database.now() - timedelta(days=40), actor_kind=ActorKind.STAFF, action="recover")
    pruned = prune(timedelta(days=30), audit=False)
    assert pruned == {"records": 1, "runs": 1, "nodes": 1}
    assert set(ManagerRecord.objects.all()) == {kept}
    assert list(Node.objects.values_list("name", flat=True)) == ["web-2"]
    assert prune(timedelta(days=30), audit=True) == {"audit": 1}
