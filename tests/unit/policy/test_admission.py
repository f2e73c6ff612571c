"""Admission as a pure function: which handshake is admitted, and which record is closed for it."""

import uuid
from datetime import UTC, datetime, timedelta

from connections.policy.admission import Admission, CountedRecord, Newcomer, admit, excess, rank

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HANDSHAKE = timedelta(seconds=10)


def holding(idle: float = 0, *, age: float = 60, **facts: object) -> CountedRecord:
    return CountedRecord(
        uuid.uuid4(),
        opened_at=NOW - timedelta(seconds=age),
        last_active_at=NOW - timedelta(seconds=idle),
        **facts,  # type: ignore[arg-type]
    )


def admit_one(counted: list[CountedRecord], *, device: uuid.UUID | None = None, attempt: int = 0) -> Admission:
    newcomer = Newcomer(uuid.uuid4(), device, attempt)
    admission = admit(newcomer, counted, soft_limit=20, burst=5, now=NOW, handshake=HANDSHAKE)
    assert admission is not None
    return admission


def test_below_the_soft_limit_a_newcomer_is_admitted_and_nothing_else_happens() -> None:
    admission = admit_one([holding() for _ in range(19)])
    assert (admission.live, admission.evicted, admission.open_run, admission.costs_two) == (20, None, False, False)


def test_above_the_soft_limit_a_newcomer_is_admitted_and_opens_a_cleanup_run() -> None:
    admission = admit_one([holding() for _ in range(20)])
    assert (admission.live, admission.evicted, admission.open_run, admission.costs_two) == (21, None, True, True)


def test_at_the_ceiling_the_record_that_ranks_first_is_evicted() -> None:
    counted = [holding(idle=n) for n in range(25)]
    admission = admit_one(counted)
    assert (admission.live, admission.evicted) == (25, counted[24].id)


def test_an_admission_beside_records_of_a_late_node_costs_one_token() -> None:
    assert not admit_one([holding() for _ in range(20)] + [holding(on_late_node=True)]).costs_two


def test_rank_is_late_node_then_overdue_then_no_turn_then_least_recently_active() -> None:
    turning = holding(idle=500, turn=True)
    fresh, idle = holding(idle=1), holding(idle=100)
    overdue = holding(idle=0, overdue=True)
    late = holding(idle=0, on_late_node=True)
    assert rank([turning, fresh, idle, overdue, late]) == [late, overdue, idle, fresh, turning]


def test_a_device_replaces_its_own_record_and_takes_no_slot() -> None:
    device = uuid.uuid4()
    own = holding(age=1, device=device, attempt=1)
    admission = admit_one([holding() for _ in range(24)] + [own], device=device, attempt=2)
    assert (admission.live, admission.replaced, admission.evicted) == (25, own.id, None)


def test_a_late_straggler_of_a_device_loses_to_a_record_younger_than_a_handshake() -> None:
    device = uuid.uuid4()
    assert admit_one([holding(age=9, device=device, attempt=7)], device=device, attempt=6).superseded
    older = holding(age=11, device=device, attempt=7)
    assert admit_one([older], device=device, attempt=6).replaced == older.id


def test_excess_is_exactly_as_many_as_needed() -> None:
    counted = [holding(idle=n) for n in range(23)]
    assert [h.id for h in excess(counted, 20)] == [h.id for h in reversed(counted[20:])]
    assert excess(counted, 23) == []
    first, second = (h.id for h in excess(counted, 21))
    assert [h.id for h in excess(counted, 21, {first})][:1] == [second]
    assert len(excess(counted, 21, {first})) == 2
