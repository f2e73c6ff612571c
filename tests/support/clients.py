"""Chat clients on real WebSockets. A client can also leave pings unanswered, stop reading, or drop its connection."""

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

_opened: dict[
    asyncio.AbstractEventLoop, list["ChatClient"]
] = {}  # the clients of each event loop that `run` has started


def run(main: Coroutine[Any, Any, T]) -> T:
    """Do as `asyncio.run`, and drop all clients that are still connected at the end. While Playwright's event loop runs
    in this thread, use another thread.
    """

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
    """One WebSocket of a user. It collects the server's `frames`, and answers pings unless `answers_pings` is False."""

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

    # --- The server's frames and the close

    def of(self, kind: str) -> list[Frame]:
        """The frames of this type that have come so far."""
        return [frame for frame in self.frames if frame.get("type") == kind]

    async def expect(self, kind: str, *, timeout: float = 5, **fields: object) -> Frame:
        """Wait for the first frame of this type, with these fields, that no earlier call has returned; return it."""
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
        """Fail if a frame of this type comes within `during` seconds, or has come and no `expect` has returned it."""
        try:
            frame = await self.expect(kind, timeout=during)
        except AssertionError:
            assert not self._ended.is_set(), self._so_far(f"closed with {self.close_code}")
            return
        raise AssertionError(f"a {kind} came: {frame}")

    async def closed(self, timeout: float = 5) -> int:
        """Wait until the socket is closed, and return its close code."""
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
        """The close code: None while the socket is open, 1006 if the connection ended without a close frame."""
        return self.socket.close_code if self._ended.is_set() else None

    @property
    def closing(self) -> Frame | None:
        """The last `closing` frame, if one has come."""
        frames = self.of("closing")
        return frames[-1] if frames else None

    # --- The client's own actions

    async def send(self, kind: str, **fields: object) -> None:
        """Send a frame of this type."""
        await self.send_json({"type": kind, **fields})

    async def send_json(self, frame: object) -> None:
        await self.socket.send(json.dumps(frame))

    async def send_raw(self, data: str | bytes) -> None:
        await self.socket.send(data)

    def stop_reading(self) -> None:
        """Read no more bytes. The server's sends fill the buffers and then block, and no ping is answered."""
        self.socket.transport.pause_reading()

    def go_on_reading(self) -> None:
        self.socket.transport.resume_reading()

    async def sip(self) -> None:
        """Read once, 256 KiB at most, and stop again."""
        self.go_on_reading()
        await asyncio.sleep(0)  # the event loop finds that the socket is readable,
        await asyncio.sleep(0)  # and reads from it
        self.stop_reading()

    async def close(self) -> None:
        """Close with code 1000."""
        await self.socket.close()
        await self._reader

    async def vanish(self) -> None:
        """Drop the TCP connection without a WebSocket close. (For a half-open connection, stop reading instead.)"""
        self.socket.transport.abort()
        await self._reader
        await self.socket.wait_closed()  # the transport closes its socket one iteration of the event loop later

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
    """Open a WebSocket as `user`, or without a cookie if `user` is None.

    `window` is the size of the kernel's receive buffer in bytes, which is megabytes by default. `origin="same"` sends
    the server's own origin, None sends no Origin header. If the server refuses the handshake with an HTTP status,
    `websockets.exceptions.InvalidStatus` is raised.
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
        ping_interval=None,  # the client sends no protocol pings: only the server's are under test
        close_timeout=2,
        max_size=None,
        proxy=None,
        sock=None if window is None else _narrow(server, window),
    )
    return ChatClient(opened, answers_pings=answers_pings, reads=reads)


def _narrow(server: Server, window: int) -> socket.socket:
    """Open a connection with a small receive buffer, set before it connects so that the TCP window is small too."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    try:
        narrow.connect(("127.0.0.1", server.port))
    except OSError:
        narrow.close()
        raise
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
    """Open `count` sockets at once, each with its own device; `server` and `user` may be functions of the number."""

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
    """Call `check` in a thread until it returns a true value, and return that value."""
    last: Any = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            while not (last := await asyncio.to_thread(check)):
                await asyncio.sleep(every)
            return last
    raise AssertionError(f"{why or check} was {last!r} for {within} s")


@contextlib.asynccontextmanager
async def connected(server: Server, user: TestUser, **options: Any) -> AsyncIterator[ChatClient]:
    """Connect a client, wait for its `ready`, and close it at the end of the block if it is still open."""
    client = await connect(server, user, **options)
    await client.expect("ready")
    try:
        yield client
    finally:
        if client.is_open:
            await client.close()
