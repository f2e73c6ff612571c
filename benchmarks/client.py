"""The load client: picows sockets, whose frames are handled where they arrive and not in a task each."""

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
CUT_OFF = 1006  # the code of a socket that ended without a close frame

# A JSON object of a hundred characters, as chats send.
MESSAGE = json.dumps({"type": "message", "text": "x" * 68}).encode()

FAILED = (WSError, OSError, TimeoutError)


class Socket(WSListener):
    """One client socket. It answers the server's pings, protocol's and ours, and notes its close."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.closed_at = 0.0
        """On `time.perf_counter`, when the close frame was read."""
        self.closed = asyncio.Event()
        self.ready = asyncio.Event()
        self.greeting: dict[str, str] = {}

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            self.closed_at = time.perf_counter()
            self.code = int.from_bytes(frame.get_payload_as_bytes()[:2]) or int(WSCloseCode.NO_INFO.value)
            transport.send_close(frame.get_close_code())  # nothing is sent where one was sent before
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT:
            self.text(frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self.code is None:
            self.closed_at, self.code = time.perf_counter(), CUT_OFF
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
        """A clean close; the code that the server closed with. Raises TimeoutError."""
        if self.code is None:
            self.transport.send_close(WSCloseCode.OK)
        async with asyncio.timeout(CLOSE_SECONDS):
            await self.closed.wait()
        assert self.code is not None
        return self.code


class Echoing(Socket):
    """Sends a message, and the next one when its echo is there."""

    def __init__(self, tally: "Tally") -> None:
        super().__init__()
        self._tally = tally
        self.going = True

    def text(self, payload: bytes) -> None:
        if payload != MESSAGE:
            super().text(payload)
            return
        self._tally.done += 1
        if self.going:
            self.send(MESSAGE)


@dataclass
class Tally:
    """What was done in a window, and what the client's own process spent on it."""

    done: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    cpu: float = 0.0
    server_cpu: float = 0.0
    """Seconds of a core a second, for whoever knows the server's process to fill in."""

    @property
    def rate(self) -> float:
        return self.done / self.seconds

    @property
    def busy(self) -> float:
        """The share of a core that the client took: near 1, it is the bottleneck."""
        return self.cpu / self.seconds


S = TypeVar("S", bound=Socket)


async def connect(url: str, cookie: str, make: Callable[[], S]) -> S:
    """An open socket. Raises what `FAILED` names."""
    origin = url.replace("ws://", "http://").split("/", 3)
    headers = {"Cookie": cookie, "Origin": "/".join(origin[:3])}
    _, socket = await ws_connect(
        make, url, extra_headers=headers, websocket_handshake_timeout=CONNECT_SECONDS, max_redirects=0
    )
    return socket  # type: ignore[return-value]  # typed as any listener; it is what `make` made


async def connect_many(url: str, cookies: Sequence[str], count: int, *, concurrency: int = 32) -> list[Socket]:
    """So many open sockets, spread over the users whose cookies these are. Raises what `FAILED` names."""
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
    """Handshakes a second: each lane opens a socket, closes it cleanly, and opens the next, of another user."""
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
    """Echoes a second over so many sockets, each with one message under way."""
    tally = Tally()
    sockets = [
        await connect(url, cookies[number % len(cookies)], lambda: Echoing(tally)) for number in range(concurrency)
    ]
    for socket in sockets:
        socket.send(MESSAGE)
    await asyncio.sleep(warmup)
    tally.done = 0
    await _measure(tally, window)
    done = tally.done
    for socket in sockets:
        socket.going = False
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
