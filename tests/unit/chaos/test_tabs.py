"""The chaos clients record each message that a socket is sent twice, out of order, or not at all."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.chaos.tabs import DeliveryCheck

Frames = list[tuple[str, int]]  # ("ask", after), ("message", seq), ("resumed", last)


def delivery_errors(frames: Frames) -> list[str]:
    """Play the frames of one socket, and return the errors that the client has recorded."""
    found: list[str] = []
    history = SimpleNamespace(delivery_errors=found)
    tab = SimpleNamespace(person=SimpleNamespace(conversations=set()), history=history, last_read={}, resumes={})
    socket = SimpleNamespace(
        tab=tab, connection=SimpleNamespace(user="ada", manager="m1"), send_frame=lambda *_, **__: None
    )
    delivery = DeliveryCheck(cast("Any", socket))
    for kind, number in frames:
        match kind:
            case "ask":
                delivery.resume("tea", number)
            case "message":
                delivery.on_message({"conversation": "tea", "seq": number})
            case _:
                delivery.on_resumed({"conversation": "tea", "last_seq": number})
    return found


@pytest.mark.parametrize(
    "frames",
    [
        [("message", 5), ("message", 6)],
        [("ask", 3), ("message", 4), ("message", 5), ("resumed", 5), ("message", 6)],
        [("ask", 0), ("ask", 2), ("message", 1), ("message", 2), ("message", 3), ("resumed", 3), ("resumed", 3)],
        [("message", 5), ("ask", 1), ("message", 2), ("message", 3), ("message", 4), ("resumed", 5), ("message", 6)],
        [("ask", 9), ("resumed", 9), ("message", 10)],
    ],
)
def test_once_and_in_order_is_right(frames: Frames) -> None:
    assert delivery_errors(frames) == []


@pytest.mark.parametrize(
    ("frames", "wrong"),
    [
        ([("message", 4), ("ask", 3), ("message", 4), ("message", 5), ("resumed", 5)], "4 of tea came after 4"),
        ([("message", 5), ("message", 7)], "7 of tea came after 5"),
        ([("message", 5), ("ask", 1), ("message", 2), ("message", 2)], "2 of tea came after 5"),
        ([("ask", 9), ("resumed", 9), ("message", 11)], "11 of tea came after 9"),
        ([("message", 5), ("ask", 1), ("message", 4), ("resumed", 5)], "after 1 ended at 5 without [2, 3]"),
    ],
)
def test_twice_out_of_order_or_not_at_all_is_wrong(frames: Frames, wrong: str) -> None:
    (found,) = delivery_errors(frames)[:1]
    assert wrong in found
