"""A client that connects above the limit while a run ends opens no run, so the ending run opens the next one."""

from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import User

from connections import database
from connections.conf import Tunables
from connections.models import RecoveryRun
from connections.policy.states import ActorKind, Outcome, RunKind, Step
from connections.recovery import runs
from tests.support.rows import make_gate, make_node, make_record, make_records, make_run, make_user

pytestmark = pytest.mark.django_db(transaction=True)
VALUES = Tunables()


@pytest.fixture
def ada() -> User:
    """A user with two managers at a limit of two."""
    user = make_user("ada")
    make_gate(user, soft_limit=2)
    make_records(2, user, make_node())
    return user


def ending(user: User, **fields: Any) -> RecoveryRun:
    """A run whose only step left is the report."""
    return make_run(user, ago=10, step=Step.REPORT, roll_call_at=database.now(), before=2, after=2, **fields)


def newcomer(user: User, *, ago: float = 5) -> None:
    make_record(user, make_node("web-2"), age=ago)


def end(run: RecoveryRun, values: Tunables = VALUES) -> Outcome:
    return Outcome(runs.advance(run.pk, values).outcome)


def test_a_newcomer_above_the_limit_gets_a_run_of_the_system(ada: User) -> None:
    run = ending(ada)
    newcomer(ada)
    assert end(run) is Outcome.NOTHING_TO_DO
    followed = RecoveryRun.objects.open().get()
    assert (followed.user, followed.kind, followed.actor_kind) == (ada, RunKind.CLEANUP, ActorKind.SYSTEM)


def test_no_run_follows_if_no_user_is_above_the_limit(ada: User) -> None:
    run = ending(ada)
    newcomer(make_user("bob"))
    end(run)
    assert not RecoveryRun.objects.open().exists()


def test_no_run_follows_without_a_newcomer_so_that_runs_do_not_follow_each_other_for_ever(ada: User) -> None:
    run = ending(ada)
    newcomer(ada, ago=15)
    end(run)
    assert not RecoveryRun.objects.open().exists()


@pytest.mark.parametrize(
    "fields", [{"kind": RunKind.RESET}, {"dry_run": True}, {"error": "free: a bad row"}], ids=["reset", "dry", "failed"]
)
def test_a_reset_a_dry_run_and_a_run_that_failed_are_followed_by_none(ada: User, fields: dict[str, Any]) -> None:
    run = ending(ada, **fields)
    newcomer(ada)
    end(run)
    assert not RecoveryRun.objects.open().exists()


def test_in_observe_mode_no_run_follows(ada: User) -> None:
    run = ending(ada)
    newcomer(ada)
    end(run, replace(VALUES, enforce="observe"))
    assert not RecoveryRun.objects.open().exists()
