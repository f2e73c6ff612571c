"""Old rows: the sweep prunes a few batches each round, and the command prunes them all."""

from datetime import timedelta

import pytest

from connections import database
from connections.conf import tunables
from connections.models import ManagerRecord
from connections.node import sweeper
from connections.node.sweeper import PRUNE_PAUSE_SECONDS, PRUNE_SECONDS, Sweeper
from connections.policy.states import CloseReason, RecordState
from connections.records import pruning
from connections.records.pruning import prune
from tests.support.rows import closed_record, make_node, make_record, make_run, make_user

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that time.monotonic() returns. A batch has two rows, and a round three batches."""
    real = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: real[0])
    monkeypatch.setattr(pruning, "BATCH", 2)
    monkeypatch.setattr(sweeper, "PRUNE_BATCHES", 3)
    return real


def make_old(count: int) -> None:
    user, node = make_user("ada"), make_node()
    for _ in range(count):
        closed_record(user, node, CloseReason.CLIENT_CLOSED, ago=40 * 86_400)


def left() -> int:
    return ManagerRecord.objects.closed().count()


def test_a_round_prunes_a_few_batches_and_the_next_ones_follow_soon(moment: list[float]) -> None:
    make_old(14)
    node = Sweeper(tunables(), "web-1")
    moment[0] += PRUNE_SECONDS
    node.round()
    assert left() == 8
    assert node.next_round() <= PRUNE_PAUSE_SECONDS
    node.round()
    assert left() == 8, "what else the thread has to do comes in between"
    moment[0] += PRUNE_PAUSE_SECONDS
    node.round()
    assert left() == 2
    moment[0] += PRUNE_PAUSE_SECONDS
    node.round()
    assert left() == 0
    ManagerRecord.objects.all().delete()
    closed_record(make_user("bob"), make_node("web-2"), ago=40 * 86_400)
    moment[0] += PRUNE_SECONDS - 1
    node.round()
    assert left() == 1, "once all is gone, the next prune is in an hour"
    moment[0] += 1
    node.round()
    assert left() == 0


def test_the_sweep_and_the_runs_come_before_history(moment: list[float]) -> None:
    make_old(14)
    make_node("witness")
    dead = make_record(make_user("bob"), make_node("web-2", silent=60))
    run = make_run(make_user("eve"))
    node = Sweeper(tunables(), "web-1")
    moment[0] += PRUNE_SECONDS
    node.round()
    dead.refresh_from_db()
    run.refresh_from_db()
    assert (dead.state, run.outcome, left()) == (RecordState.CLOSED, "nothing_to_do", 9)


def test_the_command_prunes_all_old_history(moment: list[float]) -> None:
    make_old(15)
    make_run(make_user("bob"), finished_at=database.now() - timedelta(days=40), outcome="recovered")
    assert prune(timedelta(days=30), audit=True) == {"records": 15, "runs": 1}
    assert left() == 0
