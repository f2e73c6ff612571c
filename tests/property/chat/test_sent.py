"""Each message of a conversation is sent to a socket once, however often its client resumes."""

from hypothesis import given
from hypothesis import strategies as st

from connections.chat.delivery.sent import Sent


@given(st.integers(0, 12), st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6)), max_size=12))
def test_every_number_is_sent_once(first: int, resumes: list[tuple[int, int]]) -> None:
    """Each resume sends a few of the messages that it asks for, and then fails."""
    sent, came = Sent(first), list[int]()
    for after, few in resumes:
        for _ in range(few):
            gap = sent.next_gap(after)
            seq = gap.start if gap else sent.upto + 1
            sent.add(seq)
            came.append(seq)
    while gap := sent.next_gap(0):
        sent.add(gap.start)
        came.append(gap.start)
    assert sorted(came) == list(range(1, sent.upto + 1))
