"""What one socket was sent of one conversation."""

from hypothesis import given
from hypothesis import strategies as st

from connections.chat.delivery.sent import Sent


def test_what_is_below_the_first_message_is_a_gap_until_it_is_sent() -> None:
    sent = Sent(4)
    assert sent.next_gap(0) == range(1, 5)
    assert sent.next_gap(2) == range(3, 5)
    assert not sent.next_gap(4)
    sent.add(5)
    sent.add(3)
    assert (sent.upto, sent.next_gap(0), sent.next_gap(2)) == (5, range(1, 3), range(4, 5))


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
