"""The load client: picows sockets. Frames are handled in the listener's callback, without a task for each frame."""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from picows import WSCloseCode, WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 10.0
ABNORMAL_CLOSURE = 1006  # RFC 6455: the connection ended without a close frame

# A JSON object of a hundred characters, about as long as a chat message.
MESSAGE = json.dumps({"type": "message", "text": "x" * 68}).encode()

# `connect` raises these when a handshake fails, and `Socket.close` when a close fails.
FAILED = (WSError, OSError, TimeoutError)


class Socket(WSListener):
    """One WebSocket of the load client. It answers the server's pings (WebSocket pings and `ping` messages), and
    records how the connection was closed.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        self.closed_at = 0.0
        """`time.perf_counter()` when the close frame was read."""
        self.closed = asyncio.Event()
        self.ready = asyncio.Event()
        self.greeting: dict[str, str] = {}

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            self.closed_at = time.perf_counter()
            self.code = int.from_bytes(frame.get_payload_as_bytes()[:2]) or int(WSCloseCode.NO_INFO.value)
            transport.send_close(frame.get_close_code())  # picows sends nothing if a close frame was sent before
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT:
            self.text(frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self.code is None:
            self.closed_at, self.code = time.perf_counter(), ABNORMAL_CLOSURE
        self.closed.set()

    def text(self, payload: bytes) -> None:
        frame = json.loads(payload)
        if frame["type"] == "ping":
            self.send(json.dumps({"type": "pong", "nonce": frame["nonce"]}).encode())
        elif frame["type"] == "ready":
            self.greeting = frame
            self.ready.set()

    def send(self, payload: bytes) -> None:
        self.transport.send(WSMsgType.TEXT, payload)

    async def close(self) -> int:
        """Close cleanly and return the close code that the server sent. Raises TimeoutError."""
        if self.code is None:
            self.transport.send_close(WSCloseCode.OK)
        async with asyncio.timeout(CLOSE_SECONDS):
            await self.closed.wait()
        assert self.code is not None
        return self.code


class EchoSocket(Socket):
    """Sends a message, and the next one as soon as the echo has arrived."""

    def __init__(self, tally: "Tally") -> None:
        super().__init__()
        self._tally = tally
        self.sending = True

    def text(self, payload: bytes) -> None:
        if payload != MESSAGE:
            super().text(payload)
            return
        self._tally.done += 1
        if self.sending:
            self.send(MESSAGE)


@dataclass
class Tally:
    """How many handshakes or echoes were completed in one window of time, and the CPU time that this took."""

    done: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    cpu: float = 0.0
    """CPU seconds of the client's process."""
    server_cpu: float = 0.0
    """CPU seconds a second of the server. The caller sets it, since the client doesn't know the server's pid."""

    @property
    def rate(self) -> float:
        return self.done / self.seconds

    @property
    def busy(self) -> float:
        """The share of a core that the client took. Near 1, the client is the bottleneck."""
        return self.cpu / self.seconds


S = TypeVar("S", bound=Socket)


async def connect(url: str, cookie: str, make: Callable[[], S]) -> S:
    """Open a socket. Raises one of `FAILED`."""
    origin = url.replace("ws://", "http://").split("/", 3)
    headers = {"Cookie": cookie, "Origin": "/".join(origin[:3])}
    _, socket = await ws_connect(
        make, url, extra_headers=headers, websocket_handshake_timeout=CONNECT_SECONDS, max_redirects=0
    )
    return socket  # type: ignore[return-value]  # typed as WSListener; it is what `make` returned


async def connect_many(url: str, cookies: Sequence[str], count: int, *, concurrency: int = 32) -> list[Socket]:
    """Open `count` sockets, spread over the users of `cookies`. Raises an ExceptionGroup of `FAILED`."""
    numbers = iter(range(count))
    sockets: list[Socket] = []

    async def worker() -> None:
        for number in numbers:
            sockets.append(await connect(url, cookies[number % len(cookies)], Socket))  # noqa: PERF401

    async with asyncio.TaskGroup() as workers:
        for _ in range(min(concurrency, count)):
            workers.create_task(worker())
    return sockets


async def close_all(sockets: Sequence[Socket]) -> None:
    await asyncio.gather(*(socket.close() for socket in sockets))


async def handshakes(url: str, cookies: Sequence[str], *, concurrency: int, warmup: float, window: float) -> Tally:
    """Handshakes a second: each worker opens a socket, closes it cleanly, and goes on with the next user."""
    tally = Tally()
    users = itertools.cycle(cookies)
    ended = False
    counting = False

    async def worker() -> None:
        while not ended:
            try:
                socket = await connect(url, next(users), Socket)
                code = await socket.close()
            except FAILED as error:
                tally.failed[type(error).__name__] += 1
                continue
            if code != WSCloseCode.OK.value:
                tally.failed[str(code)] += 1
            elif counting:
                tally.done += 1

    async with asyncio.TaskGroup() as workers:
        for _ in range(concurrency):
            workers.create_task(worker())
        await asyncio.sleep(warmup)
        counting = True
        await _measure(tally, window)
        counting, ended = False, True
    return tally


async def echoes(url: str, cookies: Sequence[str], *, concurrency: int, warmup: float, window: float) -> Tally:
    """Echoes a second over `concurrency` sockets, each with one message in flight."""
    tally = Tally()
    sockets = [
        await connect(url, cookies[number % len(cookies)], lambda: EchoSocket(tally)) for number in range(concurrency)
    ]
    for socket in sockets:
        socket.send(MESSAGE)
    await asyncio.sleep(warmup)
    tally.done = 0
    await _measure(tally, window)
    done = tally.done
    for socket in sockets:
        socket.sending = False
    for socket in sockets:
        if socket.code is not None:
            tally.failed[str(socket.code)] += 1
    await close_all(sockets)
    tally.done = done
    return tally


async def _measure(tally: Tally, window: float) -> None:
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.sleep(window)
    tally.seconds, tally.cpu = time.perf_counter() - began, time.process_time() - cpu
