"""No client waits longer than the bound, whatever it does."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from connections.policy.token_bucket import MAX_RETRY_AFTER, TokenBucket


@given(st.lists(st.tuples(st.floats(0, 2), st.booleans(), st.booleans()), max_size=200))
def test_retry_after_is_bounded_whatever_a_client_does(steps: list[tuple[float, bool, bool]]) -> None:
    tokens, now = TokenBucket.full(30, 3.0, 0.0), 0.0
    for passed, above, named in steps:
        now += passed
        if tokens.take(now):
            tokens.settle(now, costs_two=above)
        else:
            assert 0 <= tokens.retry_after(now, uuid.uuid4() if named else None) <= MAX_RETRY_AFTER
