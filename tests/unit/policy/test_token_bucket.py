"""The connect rate of one user on one node."""

import uuid
from itertools import pairwise

import pytest

from connections.policy.token_bucket import EARLY, MAX_RETRY_AFTER, TokenBucket


def bucket(now: float = 0.0) -> TokenBucket:
    return TokenBucket.full(30, 3.0, now)


def test_a_refused_attempt_takes_no_token_so_a_retry_never_prolongs_the_wait() -> None:
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
    assert max(told) <= MAX_RETRY_AFTER
    for at in sorted(told):
        assert tokens.take(at)
        tokens.settle(at, costs_two=True)


def emptied(now: float = 0.0) -> TokenBucket:
    """A bucket whose 30 tokens were taken at once, by admissions that cost one token each."""
    tokens = bucket(now)
    while tokens.take(now):
        tokens.settle(now, costs_two=False)
    return tokens


def test_a_promised_time_is_kept_once_for_its_device_even_if_another_client_took_the_token() -> None:
    tokens, device = emptied(), uuid.uuid4()
    told = tokens.retry_after(0.0, device)
    while tokens.take(told):
        tokens.settle(told, costs_two=True)
    assert not tokens.take(told, uuid.uuid4()), "nobody was promised this"
    assert tokens.take(told, device)
    assert not tokens.take(told, device), "a promise is kept once"


def test_a_promised_time_admits_the_device_from_then_on_and_not_before() -> None:
    tokens, device = emptied(), uuid.uuid4()
    told = tokens.retry_after(0.0, device)
    before = told - 2 * EARLY
    while tokens.take(before):
        tokens.settle(before, costs_two=True)
    assert not tokens.take(before, device)
    assert tokens.take(told - EARLY / 2, device), "it was told two decimals"


def test_the_promised_times_of_several_devices_are_two_tokens_apart() -> None:
    tokens = emptied()
    told = [tokens.retry_after(0.0, uuid.uuid4()) for _ in range(5)]
    assert [round(later - sooner, 6) for sooner, later in pairwise(told)] == [round(2 / 3, 6)] * 4


def test_a_device_that_asks_again_keeps_its_promised_time_and_moves_no_other() -> None:
    tokens, device = emptied(), uuid.uuid4()
    told = tokens.retry_after(0.0, device)
    for hammered in range(1, 100):
        now = hammered * told / 200
        assert tokens.retry_after(now, device) == pytest.approx(told - now)
    assert tokens.retry_after(0.5 * told, uuid.uuid4()) == pytest.approx(0.5 * told + 2 / 3)


def test_promises_to_many_devices_admit_no_more_than_the_rate() -> None:
    """Otherwise a client that sends many device ids would be admitted as often as it was refused."""
    tokens = emptied()
    told = {device: tokens.retry_after(0.0, device) for device in (uuid.uuid4() for _ in range(500))}
    assert max(told.values()) <= MAX_RETRY_AFTER
    admitted = sum(tokens.take(MAX_RETRY_AFTER, device) for device in told)
    assert admitted <= 30 + MAX_RETRY_AFTER * 3 / 2


def test_a_client_without_a_device_gets_a_new_time_if_another_client_took_its_token() -> None:
    tokens = emptied()
    told = tokens.retry_after(0.0, None)
    admitted = sum(tokens.take(told) for _ in range(20))
    assert admitted == round(told * 3), "what the rate has, and no promise besides"
    for _ in range(admitted):
        tokens.settle(told, costs_two=False)
    again = tokens.retry_after(told, None)
    assert 0 < again <= MAX_RETRY_AFTER
    assert tokens.take(told + again)
