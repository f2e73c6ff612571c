"""Chat clients on real sockets, which can also fall silent, stop reading, or vanish."""

import asyncio
import contextlib
import json
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed

from tests.support.databases import TestUser
from tests.support.servers import Server

Frame = dict[str, Any]
T = TypeVar("T")

_opened: dict[asyncio.AbstractEventLoop, list["ChatClient"]] = {}  # of each loop that `run` runs


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, which also drops what clients are left, and works while Playwright's loop runs (a thread)."""

    async def tidy() -> T:
        loop = asyncio.get_running_loop()
        _opened[loop] = []
        try:
            return await main
        finally:
            await asyncio.gather(*(client.vanish() for client in _opened.pop(loop)))

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(tidy())
    with ThreadPoolExecutor(1, "clients") as pool:
        return pool.submit(asyncio.run, tidy()).result()


class ChatClient:
    """One socket of a user. Collects the server's `frames`, and answers its pings unless told not to."""

    def __init__(self, socket: ClientConnection, *, answers_pings: bool, reads: bool) -> None:
        self.socket = socket
        self.frames: list[Frame] = []
        self.answers_pings = answers_pings
        self._claimed: set[int] = set()
        self._news = asyncio.Event()
        self._ended = asyncio.Event()
        if not reads:
            self.stop_reading()
        self._reader = asyncio.create_task(self._read(), name="chat client")
        _opened[asyncio.get_running_loop()].append(self)

    # --- What came

    def of(self, kind: str) -> list[Frame]:
        """The frames of a type so far."""
        return [frame for frame in self.frames if frame.get("type") == kind]

    async def expect(self, kind: str, *, timeout: float = 5, **fields: object) -> Frame:
        """The first frame of a type, with these fields, that no earlier call has returned; waits for it."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    self._news.clear()
                    for index, frame in enumerate(self.frames):
                        if index not in self._claimed and frame.get("type") == kind and fields.items() <= frame.items():
                            self._claimed.add(index)
                            return frame
                    assert not self._ended.is_set(), self._so_far(f"closed with {self.close_code} before a {kind}")
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(self._so_far(f"no {kind} {fields or ''} within {timeout} s")) from None

    async def expect_none(self, kind: str, *, during: float) -> None:
        """Fails if a frame of this type comes within so many seconds, or has come unclaimed."""
        try:
            frame = await self.expect(kind, timeout=during)
        except AssertionError:
            assert not self._ended.is_set(), self._so_far(f"closed with {self.close_code}")
            return
        raise AssertionError(f"a {kind} came: {frame}")

    async def closed(self, timeout: float = 5) -> int:
        """Waits for the end of the socket and returns its close code."""
        try:
            async with asyncio.timeout(timeout):
                await self._ended.wait()
        except TimeoutError:
            raise AssertionError(self._so_far(f"still open after {timeout} s")) from None
        assert self.close_code is not None
        return self.close_code

    @property
    def is_open(self) -> bool:
        return not self._ended.is_set()

    @property
    def close_code(self) -> int | None:
        """None while it is open; 1006 if it was cut off."""
        return self.socket.close_code if self._ended.is_set() else None

    @property
    def closing(self) -> Frame | None:
        """The `closing` frame, if one came."""
        frames = self.of("closing")
        return frames[-1] if frames else None

    # --- What it does

    async def send(self, kind: str, **fields: object) -> None:
        """Sends a frame of a type."""
        await self.send_json({"type": kind, **fields})

    async def send_json(self, frame: object) -> None:
        await self.socket.send(json.dumps(frame))

    async def send_raw(self, data: str | bytes) -> None:
        await self.socket.send(data)

    def stop_reading(self) -> None:
        """Takes no more bytes: the server's sends fill the buffers, then block. No ping is answered."""
        self.socket.transport.pause_reading()

    def go_on_reading(self) -> None:
        self.socket.transport.resume_reading()

    async def sip(self) -> None:
        """Reads once, 256 KiB at most, and stops again."""
        self.go_on_reading()
        await asyncio.sleep(0)  # the loop sees what has come,
        await asyncio.sleep(0)  # and reads it
        self.stop_reading()

    async def close(self) -> None:
        """A clean close, 1000."""
        await self.socket.close()
        await self._reader

    async def vanish(self) -> None:
        """Cuts the TCP connection without a WebSocket close. (For a half-open one, freeze or stop reading.)"""
        self.socket.transport.abort()
        await self._reader
        await self.socket.wait_closed()  # the transport closes its socket one turn of the loop later

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.vanish()

    # --- Inside

    async def _read(self) -> None:
        try:
            while True:
                frame = json.loads(await self.socket.recv())
                self.frames.append(frame)
                self._news.set()
                if frame.get("type") == "ping" and self.answers_pings:
                    await self.send("pong", nonce=frame["nonce"])
        except ConnectionClosed:
            pass
        finally:
            self._ended.set()
            self._news.set()

    def _so_far(self, problem: str) -> str:
        return f"{problem}; the frames so far:\n" + "\n".join(map(str, self.frames))


async def connect(
    server: Server,
    user: TestUser | None,
    *,
    device: str | None = None,
    attempt: int | None = None,
    answers_pings: bool = True,
    reads: bool = True,
    origin: str | None = "same",
    path: str = "/ws/chat/",
    subprotocols: list[str] | None = None,
    timeout: float = 10,
    window: int | None = None,
    **query: object,
) -> ChatClient:
    """Opens a socket as a user (None: without a cookie). `window`: bytes that the kernel takes for it, while it reads
    none; megabytes as a rule.

    `origin="same"` sends the server's own, None sends none. A handshake that is refused with an HTTP status
    raises `websockets.exceptions.InvalidStatus`.
    """
    named = {"device": device, "attempt": attempt, **query}
    parameters = urlencode({name: value for name, value in named.items() if value is not None})
    opened = await connect_websocket(
        f"{server.ws_url}{path}{'?' if parameters else ''}{parameters}",
        origin=server.url if origin == "same" else origin,  # type: ignore[arg-type]
        additional_headers={"Cookie": user.cookie} if user else None,
        subprotocols=subprotocols,  # type: ignore[arg-type]
        compression=None,
        open_timeout=timeout,
        ping_interval=None,  # only the server is under test
        close_timeout=2,
        max_size=None,
        proxy=None,
        sock=None if window is None else _narrow(server, window),
    )
    return ChatClient(opened, answers_pings=answers_pings, reads=reads)


def _narrow(server: Server, window: int) -> socket.socket:
    """A connection whose window is set before it opens: the sender's buffers keep to it too."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    narrow.connect(("127.0.0.1", server.port))
    narrow.setblocking(False)
    return narrow


async def connect_many(
    count: int,
    server: Server | Callable[[int], Server],
    user: TestUser | Callable[[int], TestUser],
    *,
    devices: bool = True,
    **options: Any,
) -> list[ChatClient]:
    """Opens many sockets at once, each with a device of its own. Server and user may depend on the number."""

    async def one(number: int) -> ChatClient:
        return await connect(
            server(number) if callable(server) else server,
            user(number) if callable(user) else user,
            device=str(uuid.uuid4()) if devices else None,
            **options,
        )

    return list(await asyncio.gather(*(one(number) for number in range(count))))


async def close_all(clients: list[ChatClient]) -> None:
    await asyncio.gather(*(client.close() for client in clients))


async def eventually(check: Callable[[], Any], *, within: float = 5, every: float = 0.05, why: str = "") -> Any:
    """Calls `check` in a thread until it returns something true, and returns that."""
    last: Any = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            while not (last := await asyncio.to_thread(check)):
                await asyncio.sleep(every)
            return last
    raise AssertionError(f"{why or check} was {last!r} for {within} s")


@contextlib.asynccontextmanager
async def connected(server: Server, user: TestUser, **options: Any) -> AsyncIterator[ChatClient]:
    """A client that is `ready`, and closes cleanly at the end."""
    client = await connect(server, user, **options)
    await client.expect("ready")
    try:
        yield client
    finally:
        if client.is_open:
            await client.close()
