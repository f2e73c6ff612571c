"""A run of a user whose gate another program has locked, on a real PostgreSQL."""

import psycopg
from pytest_django import DjangoDbBlocker

from connections import database
from connections.models import ManagerRecord
from connections.policy.actor import Actor
from connections.policy.states import Outcome, RunKind, Step
from connections.recovery import runs
from tests.support.databases import Database
from tests.support.default_database import default_database
from tests.support.rows import lost_node, make_gate, make_node, make_records, make_user

STAFF = Actor.command("support")


def test_a_run_waits_for_the_lock_and_does_not_fail(
    postgres_database: Database, django_db_blocker: DjangoDbBlocker
) -> None:
    with django_db_blocker.unblock(), default_database(postgres_database.url), database.own_connection(0.2):
        ada = make_user("ada")
        make_gate(ada)
        make_node("witness")
        make_records(3, ada, lost_node())
        run, _ = runs.request(ada, RunKind.CLEANUP, actor=STAFF, reason="stuck")
        with psycopg.connect(postgres_database.url) as stranger:
            stranger.execute("SELECT 1 FROM connections_usergate WHERE user_id = %s FOR UPDATE", [ada.pk])
            run = runs.advance(run.pk)
            assert (run.step, run.error) == (Step.TAKE_STOCK, "")
        run = runs.wait(run.pk, 10)
        assert (run.outcome, run.before, run.after) == (Outcome.RECOVERED, 3, 0)
        assert not ManagerRecord.objects.held().exists()
