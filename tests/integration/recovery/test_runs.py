"""A run as a state machine in its row: its steps, requests that join it, and concurrent advances."""

from collections.abc import Iterable

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError

from connections import database
from connections.conf import tunables
from connections.models import AuditEntry, ManagerRecord, Node, RecoveryRun, Refusal
from connections.policy.actor import Actor
from connections.policy.states import Action, CloseReason, Outcome, ProbeMode, RecordState, RunKind, Step, Verdict
from connections.records import lifecycle
from connections.records.lifecycle import Ending
from connections.recovery import runs, steps
from connections.recovery.findings import report
from tests.support.concurrency import run_concurrently
from tests.support.rows import answer_roll_call, lost_node, make_gate, make_node, make_record, make_records, make_user

pytestmark = pytest.mark.django_db(transaction=True)
STAFF = Actor.command("support")


def request(user: User, kind: RunKind = RunKind.CLEANUP, *, dry_run: bool = False) -> RecoveryRun:
    return runs.request(user, kind, actor=STAFF, reason="can't connect", dry_run=dry_run)[0]


def back_in_time(run: RecoveryRun, seconds: float) -> None:
    """Move the times of the run's request and roll call back by `seconds`."""
    from datetime import timedelta

    run.refresh_from_db()
    assert run.roll_call_at is not None
    shift = timedelta(seconds=seconds)
    RecoveryRun.objects.filter(pk=run.pk).update(
        opened_at=run.opened_at - shift, roll_call_at=run.roll_call_at - shift, due_at=database.now()
    )


def due(run: RecoveryRun) -> None:
    RecoveryRun.objects.filter(pk=run.pk).update(due_at=database.now())


def advance(run: RecoveryRun) -> RecoveryRun:
    due(run)
    return runs.advance(run.pk)


def actions(run: RecoveryRun) -> dict[str, str]:
    return {finding["id"]: finding["action"] for finding in run.findings}


def ids(records: Iterable[ManagerRecord]) -> set[str]:
    return {str(record.pk) for record in records}


def test_the_dead_of_a_lost_node_are_freed_and_the_living_spared() -> None:
    ada, bob = make_user("ada"), make_user("bob")
    here, lost = make_node("web-1"), lost_node("web-2")
    make_gate(ada)
    dead, living = make_records(12, ada, lost), make_records(3, ada, here)
    theirs = make_records(2, bob, lost)
    run = advance(request(ada))
    assert run.step == Step.EVICT, "it waits for the roll call"
    answer_roll_call(*living)
    run = advance(run)
    assert (run.outcome, run.before, run.after) == (Outcome.RECOVERED, 15, 3)
    assert report(run)["freed"] == {"node_lost": 12}
    assert {pk for pk, action in actions(run).items() if action == Action.FREED} == ids(dead)
    assert all(r.evidence and r.run_id == run.pk for r in ManagerRecord.objects.closed())
    assert set(ManagerRecord.objects.counted().filter(user=bob)) == set(theirs), "another user's are not touched"


def test_a_dry_run_names_the_managers_that_a_run_would_free_and_changes_nothing() -> None:
    ada, here = make_user("ada"), make_node("web-1")
    lapsed = make_node("web-2", silent=60)
    make_gate(ada)
    dead, living = make_records(12, ada, lapsed), make_records(8, ada, here)
    run = advance(request(ada, dry_run=True))
    answer_roll_call(*living[:3])
    answer_roll_call(*living[3:], verdict=Verdict.UNRESPONSIVE)
    run = advance(run)
    found = report(run)
    assert (run.outcome, found["before"], found["after"], found["spared"]) == (Outcome.RECOVERED, 20, 3, 3)
    assert found["freed"] == {"node_lost": 12, "unresponsive": 5}
    assert {pk for pk, a in actions(run).items() if a == Action.WOULD_FREE} == ids([*dead, *living[3:]])
    assert ManagerRecord.objects.counted().count() == 20
    assert Node.objects.filter(fenced_at__isnull=False).count() == 0
    assert not ManagerRecord.objects.exclude(probe_mode="").exclude(probe_mode=ProbeMode.REPORT).exists()


def test_a_run_evicts_by_rank_exactly_as_many_as_needed_when_all_managers_live() -> None:
    ada, here = make_user("ada"), make_node("web-1")
    make_gate(ada, soft_limit=3)
    idle = [make_record(ada, here, age=500 + n) for n in range(2)]
    fresh = make_records(3, ada, here, age=5)
    run = advance(request(ada))
    answer_roll_call(*idle, *fresh)
    run = advance(run)
    assert run.step == Step.CONFIRM, "the closes are not confirmed yet"
    assert ids(ManagerRecord.objects.closing()) == ids(idle)
    assert set(ManagerRecord.objects.closing().values_list("close_reason", flat=True)) == {CloseReason.EVICTED}
    lifecycle.end([r.pk for r in idle], Ending(CloseReason.EVICTED, "closed", STAFF), database.now())
    run = advance(run)
    assert (run.outcome, run.after, report(run)["freed"]) == (Outcome.RECOVERED, 3, {"evicted": 2})


def test_a_client_that_was_found_silent_is_not_counted_when_victims_are_chosen() -> None:
    """Its node has reported the client as silent and is about to free the record, so no living one is evicted."""
    ada, here = make_user("ada"), make_node("web-1")
    make_gate(ada, soft_limit=3)
    living, silent = make_records(3, ada, here), make_record(ada, here)
    run = advance(request(ada))
    answer_roll_call(*living)
    answer_roll_call(silent, verdict=Verdict.UNRESPONSIVE)
    back_in_time(run, 60)
    runs.advance(run.pk)
    assert not ManagerRecord.objects.filter(close_reason=CloseReason.EVICTED).exists()


def test_a_node_that_holds_its_lease_and_does_not_answer_is_unknown_never_dead() -> None:
    ada, here, deaf = make_user("ada"), make_node("web-1"), make_node("web-2")
    make_gate(ada)
    known, unknown = make_record(ada, here), make_record(ada, deaf)
    run = advance(request(ada))
    answer_roll_call(known)
    run = advance(run)
    assert run.finished_at is None
    back_in_time(run, 2 * tunables().lease_seconds + 1)
    run = runs.advance(run.pk)
    assert run.outcome == Outcome.PARTIAL
    assert actions(run) == {str(known.pk): Action.SPARED, str(unknown.pk): Action.WAITING}
    unknown.refresh_from_db()
    assert unknown.state == RecordState.LIVE


def test_eviction_does_not_wait_for_a_node_that_does_not_answer() -> None:
    ada, here, deaf = make_user("ada"), make_node("web-1"), make_node("web-2", silent=3.5)
    make_gate(ada, soft_limit=2)
    answering = make_records(2, ada, here)
    late = make_record(ada, deaf)
    run = advance(request(ada))
    answer_roll_call(*answering)
    back_in_time(run, tunables().probe_seconds + 2 * tunables().beat_seconds)
    runs.advance(run.pk)
    late.refresh_from_db()
    assert (late.state, late.close_reason) == (RecordState.CLOSING, CloseReason.EVICTED), "on a late node goes first"


def test_a_reset_closes_the_managers_it_began_with_and_spares_newcomers() -> None:
    ada, here, lost = make_user("ada"), make_node("web-1"), lost_node("web-2")
    make_gate(ada)
    living, dead = make_records(2, ada, here), make_records(3, ada, lost)
    run = advance(request(ada, RunKind.RESET))
    assert ids(ManagerRecord.objects.closing()) == ids(living)
    returned = make_record(ada, here, age=0)
    lifecycle.end([r.pk for r in living], Ending(CloseReason.RESET, "closed", STAFF), database.now())
    run = advance(run)
    assert (run.outcome, run.before, run.after) == (Outcome.RECOVERED, 5, 1)
    assert report(run)["freed"] == {"reset": 2, "node_lost": 3}
    assert set(ManagerRecord.objects.held()) == {returned}
    assert len(dead) == 3


def test_an_unconfirmed_close_is_reported_and_takes_no_slot() -> None:
    ada, deaf = make_user("ada"), make_node("web-1")
    make_gate(ada)
    record = make_record(ada, deaf)
    run = advance(request(ada, RunKind.RESET))
    back_in_time(run, 2 * tunables().lease_seconds + 1)
    run = runs.advance(run.pk)
    assert (run.outcome, report(run)["unconfirmed"]) == (Outcome.PARTIAL, 1)
    assert ManagerRecord.objects.counted().count() == 0
    assert actions(run) == {str(record.pk): Action.UNCONFIRMED}


def test_a_run_with_nothing_to_do_reports_that() -> None:
    run = advance(request(make_user("ada")))
    assert (run.outcome, run.before, run.after) == (Outcome.NOTHING_TO_DO, 0, 0)


def test_a_second_click_joins_the_run_and_adds_its_own_audit_entry() -> None:
    ada = make_user("ada")
    found = run_concurrently(*[lambda: runs.request(ada, RunKind.CLEANUP, actor=STAFF, reason="click")] * 2)
    assert len({run.pk for run, _ in found}) == 1
    assert sorted(joined for _, joined in found) == [False, True]
    assert AuditEntry.objects.filter(run=found[0][0]).count() == 2


def test_a_cleanup_and_a_reset_of_one_user_are_two_runs_and_a_dry_run_joins_none() -> None:
    ada = make_user("ada")
    opened = {
        request(ada).pk,
        request(ada, RunKind.RESET).pk,
        request(ada, dry_run=True).pk,
        request(ada, dry_run=True).pk,
    }
    assert len(opened) == 4


def test_concurrent_advances_of_a_run_take_each_step_once() -> None:
    ada = make_user("ada")
    make_gate(ada)
    make_records(3, ada, lost_node())
    make_node()
    run = request(ada)
    run_concurrently(*[lambda: runs.advance(run.pk)] * 4)
    run = advance(run)
    assert run.outcome == Outcome.RECOVERED
    taken = list(run.steps.values_list("step", flat=True))
    assert taken == [step.value for step in Step]


def test_a_step_that_fails_is_recorded_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(taken: object) -> bool:
        raise DatabaseError("a bad row")

    monkeypatch.setitem(steps.STEP_OF, Step.FREE, fail)
    run = advance(request(make_user("ada")))
    assert (run.outcome, run.step) == (Outcome.FAILED, Step.REPORT)
    assert "a bad row" in run.error
    assert run.steps.get(step=Step.FREE).error == "a bad row"


def test_a_run_whose_user_was_deleted_touches_nobodys_records() -> None:
    ada, bob, lost = make_user("ada"), make_user("bob"), lost_node()
    make_records(2, bob, lost)
    bob.delete()
    run = request(ada)
    ada.delete()
    run = advance(run)
    assert (run.outcome, run.error) == (Outcome.FAILED, "the account was deleted meanwhile")
    assert ManagerRecord.objects.counted().count() == 2


def test_a_manager_whose_node_drained_meanwhile_has_moved() -> None:
    from connections.recovery.findings import finding_of

    ada, node = make_user("ada"), make_node("web-1", retired_at=database.now())
    record = make_record(ada, node)
    run = request(ada, dry_run=True)
    record = ManagerRecord.objects.select_related("node").get(pk=record.pk)
    assert finding_of(record, run, database.now()).verdict is Verdict.MOVED
    assert Refusal.objects.count() == 0
