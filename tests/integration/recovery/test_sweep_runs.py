"""The sweep opens runs for users over their limit, and waits after a failed one before it opens the next."""

import itertools
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from connections import database
from connections.conf import tunables
from connections.models import ManagerRecord, RecoveryRun
from connections.policy.actor import Actor
from connections.policy.admission import Handshake
from connections.policy.states import ActorKind, Outcome, RunKind
from connections.records import batch
from connections.recovery import crowding, runs
from connections.recovery.bulk import PACE_SECONDS
from connections.recovery.crowding import RUN_AGAIN_SECONDS, open_runs
from tests.support.bad_rows import unwritable
from tests.support.rows import lost_node, make_gate, make_node, make_record, make_records, make_run, make_user

pytestmark = pytest.mark.django_db(transaction=True)


def ended(user: User, outcome: Outcome, *, ago: float, actor: ActorKind = ActorKind.SYSTEM, **fields: Any) -> None:
    finished = database.now() - timedelta(seconds=ago)
    make_run(user, ago=ago + 5, actor_kind=actor, finished_at=finished, outcome=outcome, **fields)


def crowded(name: str = "ada") -> User:
    """A user with three managers at a limit of two."""
    user = make_user(name)
    make_gate(user, soft_limit=2)
    make_records(3, user, make_node(f"node of {name}"))
    return user


def test_after_a_run_that_failed_the_sweep_waits_before_it_opens_the_next() -> None:
    ended(crowded("ada"), Outcome.FAILED, ago=5)
    ended(crowded("bob"), Outcome.FAILED, ago=RUN_AGAIN_SECONDS + 1)
    assert open_runs(tunables()) == 1
    assert RecoveryRun.objects.open().get().user_label == "bob"


def test_only_the_systems_last_cleanup_decides_how_long_the_sweep_waits() -> None:
    ada, bob, eve = crowded("ada"), crowded("bob"), crowded("eve")
    ended(ada, Outcome.FAILED, ago=5, actor=ActorKind.STAFF)
    ended(bob, Outcome.FAILED, ago=5, kind=RunKind.RESET)
    ended(eve, Outcome.FAILED, ago=20)
    ended(eve, Outcome.RECOVERED, ago=5)
    assert open_runs(tunables()) == 3


def test_admissions_and_staff_open_runs_while_the_sweep_waits() -> None:
    ada, bob, node = crowded("ada"), crowded("bob"), make_node()
    ended(ada, Outcome.FAILED, ago=5)
    ended(bob, Outcome.FAILED, ago=5)
    handshake = Handshake(uuid.uuid4(), ada.pk, "chat")
    with transaction.atomic():
        assert batch.write_batch(batch.plan_batch(batch.Demand([handshake]), node.pk, tunables())).runs_opened == 1
    _, joined = runs.request(bob, RunKind.CLEANUP, actor=Actor.command("support"), reason="stuck")
    assert not joined


def test_records_that_a_run_could_not_close_do_not_make_a_run_each_sweep() -> None:
    ada, node = make_user("ada"), make_node("witness")
    make_gate(ada, soft_limit=1)
    bad, _ = make_record(ada, lost_node()), make_record(ada, node)
    with unwritable(bad):
        assert open_runs(tunables()) == 1
        run = finish(RecoveryRun.objects.get())
        assert (run.outcome, ManagerRecord.objects.counted().count()) == (Outcome.PARTIAL, 2)
        assert open_runs(tunables()) == 0, "the next would find the same"
        make_record(ada, node)
        assert open_runs(tunables()) == 1, "there is one to evict again"


def test_a_limit_lowered_after_a_partial_run_is_followed_by_the_next_sweep() -> None:
    ada, node = make_user("ada"), make_node()
    gate = make_gate(ada, soft_limit=20)
    stuck, *_ = make_records(20, ada, node)
    finding = {"id": str(stuck.pk), "action": "unconfirmed", "verdict": "unresponsive", "reason": ""}
    ended(ada, Outcome.PARTIAL, ago=5, findings=[finding])
    assert open_runs(tunables()) == 0
    type(gate).objects.update(soft_limit=5)
    assert open_runs(tunables()) == 1


def test_unknown_managers_of_a_node_that_can_not_be_fenced_are_evicted_by_the_first_run() -> None:
    """Unknown managers are not dead, so they may be evicted, after which the user is no longer over the limit."""
    ada, unsteady = make_user("ada"), make_node("web-1", steady_since=database.now())
    make_gate(ada, soft_limit=2)
    make_records(3, ada, make_node("web-2", silent=60))
    make_record(ada, unsteady)
    assert open_runs(tunables()) == 1
    run = finish(RecoveryRun.objects.get())
    assert (run.outcome, ManagerRecord.objects.counted().count()) == (Outcome.PARTIAL, 2)
    assert open_runs(tunables()) == 0


def finish(run: RecoveryRun) -> RecoveryRun:
    """Advance the run as if none of its steps had to wait."""
    for _ in range(2):
        run = runs.advance(run.pk)
        if run.roll_call_at is not None and run.finished_at is None:
            long_ago = run.roll_call_at - timedelta(seconds=2 * tunables().lease_seconds + 1)
            RecoveryRun.objects.filter(pk=run.pk).update(due_at=database.now(), roll_call_at=long_ago)
    return runs.advance(run.pk)


def test_a_lowered_default_is_paced_and_those_furthest_over_it_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowding, "USERS", 40)
    users = User.objects.bulk_create([User(username=f"user-{number}") for number in range(300)])
    now, node = database.now(), make_node()
    rows = [
        ManagerRecord(user=user, pool="chat", node=node, opened_at=now, last_active_at=now)
        for number, user in enumerate(users)
        for _ in range(3 if number < 200 else 4)
    ]
    ManagerRecord.objects.bulk_create(rows)
    lowered = replace(tunables(), soft_limit=2)
    assert open_runs(lowered) == crowding.RUNS_AT_ONCE == 100
    first = RecoveryRun.objects.open()
    assert set(first.values_list("user_id", flat=True)) == {user.pk for user in users[200:]}
    due = [run.due_at for run in first.order_by("due_at")]
    apart = {round((after - before).total_seconds(), 3) for before, after in itertools.pairwise(due)}
    assert apart == {PACE_SECONDS}
    assert open_runs(lowered) == 0, "as long as so many are open"
    _, joined = runs.request(users[0], RunKind.CLEANUP, actor=Actor.command("support"), reason="stuck")
    assert not joined, "who asks for one does not wait"
    ended = list(first.filter(actor_kind=ActorKind.SYSTEM)[:30].values_list("pk", flat=True))
    RecoveryRun.objects.filter(pk__in=ended).update(finished_at=now, outcome=Outcome.FAILED)
    assert open_runs(lowered) == 30
    assert RecoveryRun.objects.open().count() == 101
