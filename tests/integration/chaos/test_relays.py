"""The relay of the chaos runs on real sockets: it loses no byte, and passes on none while it is held."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.chaos.relays import Relay, to_port
from tests.support.clients import run

HELD_SECONDS = 0.05  # on a loopback connection, bytes that are not held take a thousandth of it

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


@asynccontextmanager
async def relayed(talk: Talk, *, hold_in_dial: bool = False) -> AsyncIterator[Relay]:
    """A relay to a server that does `talk`. With `hold_in_dial` the relay is held while it connects to the server."""
    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    dial = to_port(server.sockets[0].getsockname()[1])

    async def held_dial(factory: Callable[[], asyncio.BaseProtocol]) -> None:
        relay.hold()
        await dial(factory)

    relay = Relay(held_dial if hold_in_dial else dial)
    await relay.start()
    yield relay
    await relay.stop()
    server.close()


def test_a_client_that_speaks_first_is_heard_once_the_relay_flows() -> None:
    async def scene() -> None:
        heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.set_result(await reader.readexactly(5))
            writer.close()

        async with relayed(listen) as relay:
            relay.hold()  # so the relay does not connect to the server yet
            _, writer = await asyncio.open_connection("127.0.0.1", relay.port)
            writer.write(b"first")
            await asyncio.sleep(HELD_SECONDS)
            assert not heard.done()
            relay.restore()
            async with asyncio.timeout(5):
                assert await heard == b"first"
            writer.close()

    run(scene())


def test_a_server_that_speaks_first_is_held_from_its_first_byte() -> None:
    """Python 3.11.2 reads it although the relay paused the transport in `connection_made`."""

    async def scene() -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello")
            await reader.read()
            writer.close()

        async with relayed(greet, hold_in_dial=True) as relay:
            reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
            heard = asyncio.ensure_future(reader.readexactly(5))
            await asyncio.wait({heard}, timeout=HELD_SECONDS)
            assert not heard.done(), "the relay is held"
            relay.restore()
            async with asyncio.timeout(5):
                assert await heard == b"hello"
            writer.close()

    run(scene())


def test_a_held_relay_reads_nothing_into_its_own_memory() -> None:
    """What the relay does not read stays in the sender's socket, so the sender is held too."""

    async def scene() -> None:
        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with relayed(listen) as relay:
            relay.hold()
            _, writer = await asyncio.open_connection("127.0.0.1", relay.port)
            writer.write(b"first")
            await asyncio.sleep(HELD_SECONDS)
            assert [bytes(pair.near.early) for pair in relay.pairs] == [b""]
            writer.close()

    run(scene())
