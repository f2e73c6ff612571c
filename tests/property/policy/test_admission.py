"""Admission never raises a user's count above the ceiling, whatever the limits and however many come."""

import uuid
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from connections.policy.admission import CountedRecord, Newcomer, admit

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OPENED = NOW - timedelta(seconds=60)
HANDSHAKE = timedelta(seconds=10)


@given(held=st.integers(0, 60), soft=st.integers(1, 30), burst=st.integers(1, 10), newcomers=st.integers(1, 60))
def test_no_admission_raises_the_count_above_the_ceiling_or_further_above_it(
    held: int, soft: int, burst: int, newcomers: int
) -> None:
    counted = [CountedRecord(uuid.uuid4(), OPENED, NOW - timedelta(seconds=n)) for n in range(held)]
    for _ in range(newcomers):
        before = len(counted)
        new = Newcomer(uuid.uuid4(), None, 0)
        admission = admit(new, counted, soft_limit=soft, burst=burst, now=NOW, handshake=HANDSHAKE)
        assert admission is not None
        counted = [h for h in counted if h.id not in (admission.evicted, admission.replaced)]
        counted.append(CountedRecord(new.id, NOW, NOW))
        assert admission.live == len(counted) <= max(soft + burst, before)
