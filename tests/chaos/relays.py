"""A relay between a client and a server: it passes bytes on, and can cut all connections or hold all bytes back."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

HOST = "127.0.0.1"

Dial = Callable[[Callable[[], asyncio.BaseProtocol]], Awaitable[Any]]


def to_port(port: int) -> Dial:
    return lambda factory: asyncio.get_running_loop().create_connection(factory, HOST, port)


def to_path(path: str) -> Dial:
    """Connect to a Unix socket."""
    return lambda factory: asyncio.get_running_loop().create_unix_connection(factory, path)


class _Side(asyncio.Protocol):
    """One of the two connections of a pair: the bytes that it reads, the other side writes."""

    def __init__(self, pair: "_Pair") -> None:
        self.pair = pair
        self.transport: asyncio.Transport | None = None
        self.full = False  # its write buffer is full, since its peer reads too slowly
        self.early = bytearray()  # bytes that were read and not yet passed on

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        # A transport of Python 3.11.2 starts to read right after this call, even if it was paused here, and a second
        # pause does nothing. The next step of the loop comes after that start, and before the first byte.
        asyncio.get_running_loop().call_soon(self.pair.made, self)

    def data_received(self, data: bytes) -> None:
        other = self.pair.other(self).transport
        if self.early or other is None or self.pair.stopped:
            self.early += data
        else:
            other.write(data)

    def send_early(self) -> None:
        other = self.pair.other(self).transport
        if self.early and other is not None:
            other.write(bytes(self.early))
            self.early.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        self.pair.lost(self)

    def pause_writing(self) -> None:
        self.full = True
        self.pair.flow()

    def resume_writing(self) -> None:
        self.full = False
        self.pair.flow()


class _Pair:
    def __init__(self, relay: "Relay") -> None:
        self.relay = relay
        self.near, self.far = _Side(self), _Side(self)
        self.held = False
        self.dialling: asyncio.Task[None] | None = None

    @property
    def client_port(self) -> int:
        transport = self.near.transport
        name = None if transport is None else transport.get_extra_info("peername")
        return int(name[1]) if name else 0

    @property
    def stopped(self) -> bool:
        return self.held or self.relay.is_held

    def other(self, side: _Side) -> _Side:
        return self.far if side is self.near else self.near

    def made(self, side: _Side) -> None:
        if side is self.far:
            self.flow()
            return
        self.relay.pairs.add(self)
        self.flow()
        if self.relay.is_cut:
            self.abort()
        else:
            self.dialling = asyncio.get_running_loop().create_task(self._dial(), name="relay")

    async def _dial(self) -> None:
        await self.relay.flowing.wait()
        try:
            await self.relay.dial(lambda: self.far)
        except OSError:
            self.abort()
        else:
            if self.near.transport is None or self.near.transport.is_closing():
                self.abort()

    def flow(self) -> None:
        """On each side, read only while the bytes may go on to the other side."""
        for side, other in ((self.near, self.far), (self.far, self.near)):
            transport = side.transport
            if transport is None or transport.is_closing():
                continue
            passes = other.transport is not None and not self.stopped
            if passes:
                side.send_early()
            if passes and not other.full:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def lost(self, side: _Side) -> None:
        self.relay.pairs.discard(self)
        other = self.other(side).transport
        if other is not None:
            other.close()

    def abort(self) -> None:
        self.relay.pairs.discard(self)
        for side in (self.near, self.far):
            if side.transport is not None:
                side.transport.abort()


class Relay:
    """Listens on a port of its own. `cut` resets open and new connections; `hold` passes on no byte of either."""

    def __init__(self, dial: Dial) -> None:
        self.dial = dial
        self.pairs: set[_Pair] = set()
        self.is_cut = False
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def is_held(self) -> bool:
        return not self.flowing.is_set()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Pair(self).near, HOST, 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        tasks = [pair.dialling for pair in self.pairs if pair.dialling is not None]
        for pair in list(self.pairs):
            pair.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def cut(self) -> None:
        self.is_cut = True
        for pair in list(self.pairs):
            pair.abort()

    def hold(self) -> None:
        self.flowing.clear()
        for pair in self.pairs:
            pair.flow()

    def hold_one(self, client_port: int) -> None:
        """Pass on no byte of this connection any more, as if the client's machine had lost its network."""
        for pair in self.pairs:
            if pair.client_port == client_port:
                pair.held = True
                pair.flow()

    def restore(self) -> None:
        self.is_cut = False
        self.flowing.set()
        for pair in list(self.pairs):
            pair.flow()
