"""Records that can't be freed: each is set aside, in its row or in memory, and the sweep goes on with all others."""

import uuid
from datetime import timedelta
from typing import Any

import pytest

from connections import database
from connections.conf import tunables
from connections.models import ManagerRecord
from connections.node.sweeper import Sweeper
from connections.records import lifecycle
from connections.recovery.set_aside import SET_ASIDE_MAXIMUM, SET_ASIDE_SECONDS, SetAside
from connections.recovery.sweep import sweep
from tests.support.bad_rows import unwritable
from tests.support.rows import lost_node, make_node, make_records, make_user

pytestmark = pytest.mark.django_db(transaction=True)


def failures(caplog: pytest.LogCaptureFixture, message: str) -> list[str]:
    return [record.__dict__["manager"] for record in caplog.records if record.message == message]


def test_a_row_that_cannot_even_be_marked_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("connections.recovery.sweep.BATCH", 2)
    make_node("witness")
    bad = make_records(7, make_user("ada"), lost_node())[3]
    with unwritable(bad, columns=""):
        swept = sweep(tunables(), "witness")
    assert (swept.freed, swept.failed) == ({"node_lost": 6}, 1)
    assert set(ManagerRecord.objects.held()) == {bad}
    assert failures(caplog, "sweep_not_marked") == [str(bad.pk)]
    assert sweep(tunables(), "witness").freed == {"node_lost": 1}, "mended, it is freed by whoever does not remember it"


def test_a_node_remembers_a_bad_row_from_one_sweep_to_the_next(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    moment = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: moment[0])
    make_node("witness")
    bad, *_ = make_records(3, make_user("ada"), lost_node())
    rounds = Sweeper(tunables(), "witness")
    with unwritable(bad, columns=""):
        for _ in range(3):
            moment[0] += 1.2 * tunables().sweep_seconds
            rounds.round()
    assert failures(caplog, "sweep_not_marked") == [str(bad.pk)]


def test_a_row_that_another_program_locks_is_not_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def busy(*_: Any, **__: Any) -> int:
        tries.append(1)
        raise database.Busy("lock timeout")

    make_node("witness")
    make_records(3, make_user("ada"), lost_node())
    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "end", busy)
        assert sweep(tunables(), "witness").failed == 0
    assert len(tries) == 1, "nor are they tried one by one, each with a wait of its own"
    assert sweep(tunables(), "witness").freed == {"node_lost": 3}


def test_a_remembered_row_is_tried_again_after_its_time_and_their_number_is_bounded() -> None:
    set_aside, now, pk = SetAside(), database.now(), uuid.uuid4()
    set_aside.add(pk, now)
    assert set_aside.at(now + timedelta(seconds=SET_ASIDE_SECONDS - 1)) == {pk}
    assert set_aside.at(now + timedelta(seconds=SET_ASIDE_SECONDS)) == set()
    for _ in range(SET_ASIDE_MAXIMUM):
        set_aside.add(uuid.uuid4(), now)
    set_aside.add(pk, now)
    assert len(set_aside.at(now)) == SET_ASIDE_MAXIMUM
    assert pk in set_aside.at(now)
