"""No change of records waits for a record that is locked, and two of the same records never deadlock.

On a real PostgreSQL, on which another program has locked one of two rows: a change and a sign-out at the same moment
both end at once, and only the other row is changed.
"""

import logging
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import psycopg
import pytest
from django.contrib.auth.models import User
from psycopg import sql
from pytest_django import DjangoDbBlocker

from connections import database
from connections.conf import Tunables, tunables
from connections.models import ManagerRecord, Node, RecoveryRun
from connections.policy.actor import Actor
from connections.policy.admission import Admission, Handshake
from connections.policy.states import CloseReason, RecordState, RunKind, Step
from connections.records import lifecycle
from connections.records.lifecycle import Ending
from connections.records.writer import Writer
from connections.recovery import actions, runs
from tests.support.databases import Database
from tests.support.default_database import default_database
from tests.support.locks import no_lock_waits
from tests.support.rows import lost_node, make_gate, make_node, make_record, make_user

STAFF = Actor.command("support")
HIGH, LOW = (
    uuid.UUID(int=2),
    uuid.UUID(int=1),
)  # inserted in this order, so that the physical order is not the order of the ids
Change = Callable[[], object]


@pytest.fixture
def server(postgres_database: Database, django_db_blocker: DjangoDbBlocker) -> Iterator[Database]:
    with psycopg.connect(postgres_database.url, autocommit=True) as stranger:
        name = sql.Identifier(stranger.info.dbname)
        stranger.execute(sql.SQL("ALTER DATABASE {} SET deadlock_timeout = '50ms'").format(name))
    with django_db_blocker.unblock(), default_database(postgres_database.url):
        yield postgres_database


def ending(ada: User) -> Change:
    node = make_node()
    for pk in (HIGH, LOW):
        make_record(ada, node, id=pk)
    now = database.now()
    return lambda: lifecycle.end_each([HIGH, LOW], Ending(CloseReason.ORPHANED, "lost", STAFF), now)


def a_batch_that_ends_one_and_evicts_the_other(ada: User) -> Change:
    node = make_node()
    make_record(ada, node, id=HIGH, age=1)
    make_record(ada, node, id=LOW)
    return partial(_written, Handshake(uuid.uuid4(), ada.pk, "chat", soft_limit=1, burst=1), node)


def _written(handshake: Handshake, node: Node) -> None:
    writer = Writer(Tunables(), lambda batch: None)
    writer.node_id = node.pk
    writer.release(HIGH, CloseReason.CLIENT_CLOSED, "closed with 1000")
    admission = writer.admit(handshake)
    writer.start()
    assert isinstance(admission.result(10), Admission)
    assert writer.stop(10)


def the_step(step: Step, ada: User) -> Change:
    long_ago = database.now() - timedelta(minutes=1)
    run, _ = runs.request(ada, RunKind.CLEANUP, actor=STAFF, reason="stuck")
    stock = [str(pk) for pk in ManagerRecord.objects.filter(user=ada).order_by("-pk").values_list("pk", flat=True)]
    RecoveryRun.objects.filter(pk=run.pk).update(step=step, roll_call_at=long_ago, stock=stock)
    return partial(runs.advance, run.pk, tunables())


def a_roll_call(ada: User) -> Change:
    ending(ada)
    return the_step(Step.ROLL_CALL, ada)


def freeing_of_two_lost_nodes(ada: User) -> Change:
    for pk, age in ((HIGH, 60), (LOW, 50)):
        make_record(ada, lost_node(f"web-{pk.int}"), id=pk, age=age)
    return the_step(Step.FREE, ada)


def evicting_in_two_pools(ada: User) -> Change:
    node = make_node()
    for pk, pool in ((HIGH, "chat"), (LOW, "orders")):
        make_gate(ada, pool=pool, soft_limit=1)
        make_record(ada, node, id=pk, pool=pool)
        make_record(ada, node, id=uuid.UUID(int=pk.int + 2), pool=pool, age=1)
    return the_step(Step.EVICT, ada)


def freeing_and_evicting(ada: User) -> Change:
    make_gate(ada, soft_limit=1)
    make_record(ada, lost_node(), id=HIGH)
    node = make_node()
    make_record(ada, node, id=LOW)
    make_record(ada, node, id=uuid.UUID(int=3), age=1)
    return the_step(Step.CONFIRM, ada)


@pytest.mark.parametrize(
    "made",
    [
        ending,
        a_batch_that_ends_one_and_evicts_the_other,
        a_roll_call,
        freeing_of_two_lost_nodes,
        evicting_in_two_pools,
        freeing_and_evicting,
    ],
)
def test_a_change_of_several_records_and_a_sign_out_by_their_user_do_not_deadlock(
    made: Callable[[User], Change], server: Database, caplog: pytest.LogCaptureFixture
) -> None:
    ada = make_user("ada")
    change = made(ada)
    with psycopg.connect(server.url) as stranger, ThreadPoolExecutor(2) as threads:
        stranger.execute("SELECT 1 FROM connections_managerrecord WHERE id = %s FOR UPDATE", [HIGH])
        with no_lock_waits(server):
            one, other = started(threads, change), started(threads, lambda: actions.close_own(ada, None, actor=STAFF))
            one.result(20)
            other.result(20)
        assert ManagerRecord.objects.get(pk=HIGH).state == RecordState.LIVE
        stranger.rollback()
    troubles = [record for record in caplog.records if record.levelno >= logging.ERROR or "deadlock" in record.message]
    assert not troubles, [(r.getMessage(), getattr(r, "error", "")) for r in troubles]


def started(threads: ThreadPoolExecutor, change: Change) -> "Future[None]":
    def play() -> None:
        with database.own_connection(2.0):
            change()

    return threads.submit(play)
