"""Admission, rank, the token bucket and the judging of clients, over facts. Times are arguments: nothing sleeps."""

import uuid
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connections import policy
from connections.policy import Holding, Newcomer, Patience, Pulse, TokenBucket
from connections.states import CloseReason, Verdict

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HANDSHAKE = timedelta(seconds=10)


def holding(idle: float = 0, *, age: float = 60, **facts: object) -> Holding:
    return Holding(
        uuid.uuid4(),
        opened_at=NOW - timedelta(seconds=age),
        last_active_at=NOW - timedelta(seconds=idle),
        **facts,  # type: ignore[arg-type]
    )


def admit(counted: list[Holding], *, device: uuid.UUID | None = None, attempt: int = 0) -> policy.Admission:
    return policy.admit(
        Newcomer(uuid.uuid4(), device, attempt), counted, soft_limit=20, burst=5, now=NOW, handshake=HANDSHAKE
    )


def test_below_the_soft_limit_a_newcomer_is_just_admitted() -> None:
    admission = admit([holding() for _ in range(19)])
    assert (admission.live, admission.evicted, admission.open_run, admission.costs_two) == (20, None, False, False)


def test_above_the_soft_limit_it_is_admitted_and_opens_a_cleanup_run() -> None:
    admission = admit([holding() for _ in range(20)])
    assert (admission.live, admission.evicted, admission.open_run, admission.costs_two) == (21, None, True, True)


def test_at_the_ceiling_the_one_that_ranks_first_makes_room() -> None:
    counted = [holding(idle=n) for n in range(25)]
    admission = admit(counted)
    assert (admission.live, admission.evicted) == (25, counted[24].id)


def test_nobody_pays_twice_for_the_dead_of_a_late_node() -> None:
    assert not admit([holding() for _ in range(20)] + [holding(on_late_node=True)]).costs_two


def test_rank_is_late_node_then_overdue_then_no_turn_then_least_recently_active() -> None:
    turning = holding(idle=500, turn=True)
    fresh, idle = holding(idle=1), holding(idle=100)
    overdue = holding(idle=0, overdue=True)
    late = holding(idle=0, on_late_node=True)
    assert policy.rank([turning, fresh, idle, overdue, late]) == [late, overdue, idle, fresh, turning]


def test_a_device_replaces_its_own_record_and_takes_no_slot() -> None:
    device = uuid.uuid4()
    own = holding(age=1, device=device, attempt=1)
    admission = admit([holding() for _ in range(24)] + [own], device=device, attempt=2)
    assert (admission.live, admission.replaced, admission.evicted) == (25, own.id, None)


def test_a_late_straggler_of_a_device_loses_to_a_record_younger_than_a_handshake() -> None:
    device = uuid.uuid4()
    assert admit([holding(age=9, device=device, attempt=7)], device=device, attempt=6).superseded
    older = holding(age=11, device=device, attempt=7)
    assert admit([older], device=device, attempt=6).replaced == older.id


def test_excess_is_exactly_as_many_as_needed() -> None:
    counted = [holding(idle=n) for n in range(23)]
    assert [h.id for h in policy.excess(counted, 20)] == [h.id for h in reversed(counted[20:])]
    assert policy.excess(counted, 23) == []
    first, second = (h.id for h in policy.excess(counted, 21))
    assert [h.id for h in policy.excess(counted, 21, {first})][:1] == [second]
    assert len(policy.excess(counted, 21, {first})) == 2


@given(held=st.integers(0, 60), soft=st.integers(1, 30), burst=st.integers(1, 10), newcomers=st.integers(1, 60))
def test_no_admission_raises_the_count_above_the_ceiling_or_further_above_it(
    held: int, soft: int, burst: int, newcomers: int
) -> None:
    counted = [holding(idle=n) for n in range(held)]
    for _ in range(newcomers):
        before = len(counted)
        new = Newcomer(uuid.uuid4(), None, 0)
        admission = policy.admit(new, counted, soft_limit=soft, burst=burst, now=NOW, handshake=HANDSHAKE)
        counted = [h for h in counted if h.id not in (admission.evicted, admission.replaced)]
        counted.append(Holding(new.id, NOW, NOW))
        assert admission.live == len(counted) <= max(soft + burst, before)


# The token bucket


def bucket(now: float = 0.0) -> TokenBucket:
    return TokenBucket.full(30, 3.0, now)


def test_a_refused_attempt_takes_nothing_so_a_retry_never_prolongs_it() -> None:
    tokens = bucket()
    assert sum(tokens.take(0.0) for _ in range(40)) == 30
    device = uuid.uuid4()
    told = tokens.retry_after(0.0, device)
    for hammered in range(100):
        assert not tokens.take(hammered / 1000)
        assert tokens.retry_after(hammered / 1000, device) <= told
    for _ in range(30):
        tokens.settle(0.2, costs_two=False)
    assert tokens.take(told)


def test_refused_clients_are_staggered_and_each_finds_a_token_at_its_time() -> None:
    tokens = bucket()
    admitted = sum(tokens.take(0.0) for _ in range(50))
    told = [tokens.retry_after(0.0, None) for _ in range(20)]
    for n in range(admitted):
        tokens.settle(0.0, costs_two=n >= 20)
    assert admitted == 30
    assert len(set(told)) == 20
    assert max(told) <= policy.MAX_RETRY_AFTER
    for at in sorted(told):
        assert tokens.take(at)
        tokens.settle(at, costs_two=True)


def emptied(now: float = 0.0) -> TokenBucket:
    """A bucket whose 30 tokens were taken at once, by admissions that cost no more."""
    tokens = bucket(now)
    while tokens.take(now):
        tokens.settle(now, costs_two=False)
    return tokens


def test_a_promise_is_kept_also_when_somebody_else_took_the_token_once_and_only_to_its_device() -> None:
    tokens, device = emptied(), uuid.uuid4()
    told = tokens.retry_after(0.0, device)
    while tokens.take(told):
        tokens.settle(told, costs_two=True)
    assert not tokens.take(told, uuid.uuid4()), "nobody was promised this"
    assert tokens.take(told, device)
    assert not tokens.take(told, device), "a promise is kept once"


def test_a_promise_holds_from_its_time_on_and_not_before() -> None:
    tokens, device = emptied(), uuid.uuid4()
    told = tokens.retry_after(0.0, device)
    before = told - 2 * policy.EARLY
    while tokens.take(before):
        tokens.settle(before, costs_two=True)
    assert not tokens.take(before, device)
    assert tokens.take(told - policy.EARLY / 2, device), "it was told two decimals"


def test_promises_of_one_queue_are_two_tokens_apart() -> None:
    tokens = emptied()
    told = [tokens.retry_after(0.0, uuid.uuid4()) for _ in range(5)]
    assert [round(later - sooner, 6) for sooner, later in pairwise(told)] == [round(2 / 3, 6)] * 4


def test_a_device_that_asks_again_keeps_its_place_and_moves_nobody_elses() -> None:
    tokens, device = emptied(), uuid.uuid4()
    told = tokens.retry_after(0.0, device)
    for hammered in range(1, 100):
        now = hammered * told / 200
        assert tokens.retry_after(now, device) == pytest.approx(told - now)
    assert tokens.retry_after(0.5 * told, uuid.uuid4()) == pytest.approx(0.5 * told + 2 / 3)


def test_a_queue_that_begins_anew_gives_no_more_rights_than_the_rate() -> None:
    """Otherwise whoever sends many device ids would be let in as often as it was refused."""
    tokens = emptied()
    told = {device: tokens.retry_after(0.0, device) for device in (uuid.uuid4() for _ in range(500))}
    assert max(told.values()) <= policy.MAX_RETRY_AFTER
    admitted = sum(tokens.take(policy.MAX_RETRY_AFTER, device) for device in told)
    assert admitted <= 30 + policy.MAX_RETRY_AFTER * 3 / 2


def test_a_client_without_a_device_is_told_a_new_time_if_somebody_came_in_between() -> None:
    tokens = emptied()
    told = tokens.retry_after(0.0, None)
    admitted = sum(tokens.take(told) for _ in range(20))
    assert admitted == round(told * 3), "what the rate has, and no promise besides"
    for _ in range(admitted):
        tokens.settle(told, costs_two=False)
    again = tokens.retry_after(told, None)
    assert 0 < again <= policy.MAX_RETRY_AFTER
    assert tokens.take(told + again)


@given(st.lists(st.tuples(st.floats(0, 2), st.booleans(), st.booleans()), max_size=200))
def test_retry_after_is_bounded_whatever_a_client_does(steps: list[tuple[float, bool, bool]]) -> None:
    tokens, now = bucket(), 0.0
    for passed, above, named in steps:
        now += passed
        if tokens.take(now):
            tokens.settle(now, costs_two=above)
        else:
            assert 0 <= tokens.retry_after(now, uuid.uuid4() if named else None) <= policy.MAX_RETRY_AFTER


# Judging


PATIENCE = Patience(heartbeat=25, pong=10, probe=5, stuck=60, handshake=10, send=10)


def pulse(**facts: object) -> Pulse:
    healthy: dict[str, object] = {
        "opened": 0.0, "accepted": True, "heard": 100.0, "told": 100.0, "pinged": None, "busy": None,
        "waiting": 0, "sending": None,
    }  # fmt: skip
    return Pulse(**(healthy | facts))  # type: ignore[arg-type]


def end_of(at: float, **facts: object) -> CloseReason | None:
    return policy.judge(pulse(**facts), at, PATIENCE).end


def test_a_client_is_pinged_after_a_heartbeat_of_silence_on_either_side() -> None:
    assert not policy.judge(pulse(), 124.9, PATIENCE).ping
    assert policy.judge(pulse(heard=200.0), 125.0, PATIENCE).ping
    assert policy.judge(pulse(told=200.0), 125.0, PATIENCE).ping


def test_an_unanswered_ping_ends_a_client_as_unresponsive_when_its_time_is_over() -> None:
    assert end_of(134.9, pinged=125.0) is None
    assert end_of(135.0, pinged=125.0) is CloseReason.UNRESPONSIVE


def test_while_frames_wait_the_handler_is_judged_and_not_the_client() -> None:
    assert end_of(150.0, pinged=125.0, waiting=1, busy=100.0) is None
    assert end_of(160.0, pinged=125.0, waiting=1, busy=100.0) is CloseReason.STUCK
    assert end_of(500.0, busy=100.0, heard=499.0, told=499.0) is None, "busy with nothing waiting is only busy"


def test_a_roll_call_too_judges_the_handler_and_not_the_client_while_frames_wait() -> None:
    for at, expected in ((159.9, Verdict.ALIVE), (160.0, Verdict.STUCK)):
        found = policy.roll_call(pulse(waiting=1, busy=100.0), 120.0, at, PATIENCE)
        assert found is not None
        assert found[0] is expected


def test_never_accepted_and_never_taking_bytes_have_their_own_ends() -> None:
    assert end_of(9.9, accepted=False) is None
    assert end_of(10.0, accepted=False) is CloseReason.NEVER_OPENED
    assert end_of(110.0, sending=100.0) is CloseReason.CLIENT_GONE


def test_where_no_frame_of_ours_may_be_sent_a_client_is_never_judged_by_silence() -> None:
    judged = policy.judge(pulse(probeable=False), 10_000.0, PATIENCE)
    assert (judged.end, judged.ping) == (None, False)


def test_a_roll_call_is_timed_from_its_own_sending() -> None:
    assert policy.roll_call(pulse(), 101.0, 105.9, PATIENCE) is None
    silent = policy.roll_call(pulse(), 101.0, 106.0, PATIENCE)
    assert silent is not None
    assert silent[0] is Verdict.UNRESPONSIVE
    heard = policy.roll_call(pulse(heard=101.5), 101.0, 200.0, PATIENCE)
    assert heard is not None
    assert heard[0] is Verdict.ALIVE
