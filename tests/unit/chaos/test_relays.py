"""The relay of the chaos runs loses no byte, whichever side is connected first."""

import asyncio
from typing import Any, cast

from tests.chaos.relays import Relay, _Pair, to_port
from tests.support.clients import run


class Transport:
    """A transport that remembers what it was told."""

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
    """Python 3.11.2 delivers them although reading was paused in `connection_made`."""
    pair = _Pair(Relay(to_port(1)))
    near, far = Transport(), Transport()
    pair.near.transport = cast("Any", near)
    pair.near.data_received(b"the start")
    assert not near.reading, "nothing more is read until the far side is there"
    pair.near.data_received(b"up, ")
    pair.far.transport = cast("Any", far)
    pair.made(pair.far)
    pair.near.data_received(b"and what follows")
    assert far.written == b"the startup, and what follows"
    assert near.reading


def test_a_client_that_speaks_first_is_heard_through_a_real_relay() -> None:
    async def scene() -> bytes:
        heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.set_result(await reader.readexactly(5))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        relay = Relay(to_port(server.sockets[0].getsockname()[1]))
        await relay.start()
        relay.hold()  # the far side is not dialled yet
        _, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(b"first")
        await asyncio.sleep(0.05)
        relay.restore()
        async with asyncio.timeout(5):
            found = await heard
        writer.close()
        await relay.stop()
        server.close()
        return found

    assert run(scene()) == b"first"
