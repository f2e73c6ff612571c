"""What one socket was sent of one conversation."""

from connections.chat.delivery.sent import Sent


def test_what_is_below_the_first_message_is_a_gap_until_it_is_sent() -> None:
    sent = Sent(4)
    assert sent.next_gap(0) == range(1, 5)
    assert sent.next_gap(2) == range(3, 5)
    assert not sent.next_gap(4)
    sent.add(5)
    sent.add(3)
    assert (sent.upto, sent.next_gap(0), sent.next_gap(2)) == (5, range(1, 3), range(4, 5))
