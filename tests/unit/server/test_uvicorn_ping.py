"""The protocol ping of `serve` on uvicorn, over a real socket and an event loop that stalls."""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from connections.server.uvicorn import Protocol

PONG_SECONDS = 0.3


class Stalls(Protocol):
    """Stall the event loop for three times the pong time-out after each ping, so that the pong lies unread."""

    async def ping(self, data: Any = None) -> Any:
        pong = await super().ping(data)
        self.loop.call_soon(time.sleep, 3 * PONG_SECONDS)
        return pong


async def accepts(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def served(protocol: type[Protocol], client: Callable[[int], bool]) -> bool:
    """Serve one client, a function of the port that runs in a thread, and return its result."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(
            accepts, lifespan="off", log_config=None, ws=protocol, ws_ping_interval=0.1, ws_ping_timeout=PONG_SECONDS
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve(sockets=[listening]))
        result = await asyncio.to_thread(client, listening.getsockname()[1])
        server.should_exit = True
        await asyncio.wait_for(serving, 10)
    return result


def answers(port: int) -> bool:
    """Answer each protocol ping, as the library does in a thread, and return whether the server closed all the same."""
    with connect(f"ws://127.0.0.1:{port}/", ping_interval=None, close_timeout=1, proxy=None) as client:
        try:
            client.recv(timeout=4.0)
        except TimeoutError:
            return False
        except ConnectionClosed:
            return True
    raise AssertionError("the server sends no frames")


def is_silent(port: int) -> bool:
    """Answer no ping, and return whether the server closed."""
    lines = [
        "GET / HTTP/1.1", "Host: here", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", "",
    ]  # fmt: skip
    with socket.create_connection(("127.0.0.1", port), timeout=8.0) as client:
        client.sendall("\r\n".join(lines).encode())
        try:
            while client.recv(4096):
                pass
        except TimeoutError:
            return False
    return True


def test_a_stalled_event_loop_closes_no_client_whose_pong_lies_unread() -> None:
    assert not asyncio.run(served(Stalls, answers))


def test_a_client_that_answers_no_ping_is_closed_on_an_event_loop_that_stalls_and_on_one_that_does_not() -> None:
    assert asyncio.run(served(Stalls, is_silent))
    assert asyncio.run(served(Protocol, is_silent))
