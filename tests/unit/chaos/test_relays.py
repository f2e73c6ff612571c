"""The relay of the chaos runs loses no byte, whichever side is connected first."""

from typing import Any, cast

from tests.chaos.relays import Relay, _Pair, to_port


class Transport:
    """A fake transport that keeps the written bytes, and whether it reads."""

    def __init__(self) -> None:
        self.written = b""
        self.reading = True

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def test_bytes_that_arrive_before_the_far_side_reach_it_in_order() -> None:
    pair = _Pair(Relay(to_port(1)))
    near, far = Transport(), Transport()
    pair.near.transport = cast("Any", near)
    pair.near.data_received(b"the start")
    pair.flow()
    assert not near.reading, "the relay reads no more until the far side is there"
    pair.near.data_received(b"up, ")
    pair.far.transport = cast("Any", far)
    pair.near.data_received(b"then ")
    pair.made(pair.far)
    pair.near.data_received(b"the rest")
    assert far.written == b"the startup, then the rest"
    assert near.reading
