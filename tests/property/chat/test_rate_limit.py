"""Fifty frames in any second, and not one more."""

from hypothesis import given
from hypothesis import strategies as st

from connections.chat.rate_limit import FrameRate


@given(st.lists(st.floats(0, 0.2), max_size=200), st.integers(1, 10))
def test_a_frame_is_refused_exactly_if_too_many_came_within_a_second(gaps: list[float], most: int) -> None:
    rate, now = FrameRate(most), 0.0
    times: list[float] = []
    for gap in gaps:
        now += gap
        within = sum(now - earlier < 1.0 for earlier in times)
        assert rate.allows(now) == (within < most)
        times.append(now)
