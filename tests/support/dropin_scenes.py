"""Scenes that a client plays with the consumers of the project in tests/dropin, with the middleware and without it."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from tests.support.clients import eventually
from tests.support.databases import Database, TestUser
from tests.support.http_browser import HttpBrowser
from tests.support.scenes import MARGIN, Pace, close_reasons, records
from tests.support.servers import Server

PACE = Pace(heartbeat=3.0)
PING_LATE_SECONDS = 2.0  # how late Daphne and uvicorn are with a protocol ping at most

EVERY_BYTE = bytes(range(256))
FRAMES: list[str | bytes | list[str]] = [
    "plain", "", b"", "žluťoučký 🐎 \u0000 \U0010ffff", EVERY_BYTE, "x" * 300_000, EVERY_BYTE * 2000,
    '{"type": "pong", "nonce": "theirs"}', '{"type": "ping"}', '{"type": "closing"}', ["in ", "three ", "pieces"],
]  # fmt: skip
END = "that was all"

Door = Callable[..., Any]


class Stage:
    def __init__(self, server: Server, database: Database) -> None:
        self.server = server
        self.database = database
        self.lead = HttpBrowser(server, database.user("lead"))

    def open(self, path: str, user: str | None, subprotocols: Iterable[str] = ()) -> Any:
        """A bare WebSocket client, to be awaited or entered."""
        cookie = {} if user is None else {"Cookie": self.database.user(user).cookie}
        return connect_websocket(
            self.server.ws_url + path,
            origin=Origin(self.server.url),
            additional_headers=cookie,
            subprotocols=[Subprotocol(each) for each in subprotocols] or None,
            compression=None,
            ping_interval=None,
            close_timeout=2,
            max_size=None,
            proxy=None,
        )

    async def same(self, user: str | None, scene: Callable[[Door], Awaitable[Any]]) -> Any:
        """Play a scene with the bare and with the wrapped consumers, check that both results are equal, return one."""
        bare = await scene(lambda kind, *more: self.open(f"/bare/{kind}/", user, *more))
        wrapped = await scene(lambda kind, *more: self.open(f"/ws/{kind}/", user, *more))
        assert wrapped == bare, scene.__name__
        return bare

    def post(self, path: str, **form: str) -> str:
        """Post a form to the console as a member of staff, and return the location that the answer redirects to."""
        self.lead.get("/support/users/")
        answer = self.lead.post(f"/support/{path}", **form)
        assert answer.status == 303, (answer.status, answer.text[-2000:])
        return answer.location

    async def check(self, user: str) -> set[str]:
        """Let staff check a user from the console, wait for the run's end, and return the verdicts on the managers."""
        address = await asyncio.to_thread(self.post, f"users/{self.database.user(user).id}/check/")
        run_id = address.rstrip("/").split("/")[-1].split("=")[-1].replace("-", "")
        rows = await eventually(
            lambda: self.database.query(
                "SELECT findings FROM connections_recoveryrun WHERE id = ? AND finished_at IS NOT NULL", [run_id]
            )
        )
        return {found["verdict"] for found in json.loads(rows[0][0])}

    async def reset(self, user: str) -> None:
        mine = self.database.user(user)
        await asyncio.to_thread(self.post, f"users/{mine.id}/reset/", reason="a test", confirm=f"{user}@example.org")

    async def ended(self, user: str, *wanted: str, within: float = 3) -> None:
        """Wait until all records of a user are closed, and check that the reasons are the `wanted` ones."""
        mine: TestUser = self.database.user(user)
        await eventually(lambda: not records(self.database, mine, "live", "closing"), within=within, why=user)
        assert sorted(close_reasons(self.database, mine).elements()) == sorted(wanted), user


async def close_of(socket: ClientConnection) -> tuple[list[str | bytes], int | None, str | None]:
    """Read until the socket is closed; return the frames, the close code and the close reason."""
    frames: list[str | bytes] = []
    try:
        async with asyncio.timeout(8):
            while True:
                frames.append(await socket.recv())
    except ConnectionClosed:
        return frames, socket.close_code, socket.close_reason


# --- Scenes with a result, which is the same with the middleware and without


async def echo(door: Door) -> Any:
    async with door("echo") as socket:
        for frame in FRAMES:
            await socket.send(frame)
        await socket.send(END)
        heard: list[Any] = []
        while (frame := await socket.recv()) != END:
            heard.append(frame)
        return heard


async def versioned(door: Door) -> Any:
    seen: list[Any] = []
    for says in ("4321 so long", "1000 ", "3000 žluť"):
        async with door("versioned", ["v1", "v2"]) as socket:
            seen.append((socket.subprotocol, socket.response.headers.get("x-room")))
            await socket.send(says)
            seen.append(await close_of(socket))
    return seen


async def refused(door: Door, *kinds: str) -> Any:
    seen = []
    for kind in kinds:
        with pytest.raises(InvalidStatus) as caught:
            await door(kind)
        answer = caught.value.response
        seen.append((answer.status_code, answer.body, answer.headers.get("x-why")))
    return seen


async def declined(door: Door) -> Any:
    return await refused(door, "declines", "denies")


async def answered(door: Door) -> Any:
    return await refused(door, "answers-http")


async def room(door: Door) -> Any:
    async with door("room") as one, door("room") as other:
        await other.send(json.dumps({"type": "pong", "nonce": "theirs"}))
        heard = [await one.recv(), await other.recv()]
        for code in (4001, 1000):
            async with door("room") as third:
                await third.close(code)
            heard += [await one.recv(), await other.recv()]
        # Only one client leaves here: a consumer of Channels also sends to a client that is about to leave the room.
        await other.close()
        return [*heard, await one.recv()]


async def sync(door: Door) -> Any:
    async with door("sync") as one, door("sync") as other:
        await one.send("hello")
        return [await one.recv(), await other.recv()]


# --- Scenes in which the engine closes the sockets


async def handler_fails(stage: Stage) -> None:
    for kind in ("raises", "raises-at-once"):
        async with stage.open(f"/ws/{kind}/", "u4") as socket:
            if kind == "raises":
                await socket.send("go")
            assert (await close_of(socket))[:2] == ([], 4500)
    await stage.ended("u4", "handler_failed", "handler_failed")


async def no_frame_of_ours(stage: Stage) -> None:
    """On a route without injected frames, an evicted and a reset client get a close code and no frame of the engine."""
    user = "u5"
    sockets = [await stage.open("/private/", user) for _ in range(3)]  # one above its soft limit
    assert await close_of(sockets[0]) == ([], 4409, "")
    await stage.check(user)
    await stage.reset(user)
    for socket in sockets[1:]:
        assert await close_of(socket) == ([], 4411, "")
    await stage.ended(user, "evicted", "reset", "reset")


async def frames_of_ours(stage: Stage) -> None:
    """On a route with injected frames, a client answers the engine's ping, and its consumer never sees the pong."""
    user = "u6"
    async with stage.open("/orders/", user) as socket:
        checking = asyncio.create_task(stage.check(user))
        ping = json.loads(await socket.recv())
        assert ping.keys() == {"type", "nonce"}
        for nonce in ("theirs", ping["nonce"]):
            await socket.send(json.dumps({"type": "pong", "nonce": nonce}))
        await socket.send('["last"]')
        # The room's consumer sends each frame back to all its members: here the pong with the wrong nonce and ["last"].
        assert [json.loads(await socket.recv()) for _ in range(2)] == [{"type": "pong", "nonce": "theirs"}, ["last"]]
        assert await checking == {"alive"}
        await stage.reset(user)
        frames, code, _ = await close_of(socket)
        assert ([json.loads(frame)["type"] for frame in frames], code) == (["closing"], 4411)
    await stage.ended(user, "reset")


async def half_open(stage: Stage) -> None:
    """On a route without injected frames, a roll call finds a half-open client alive, until the server's protocol ping
    fails and the record is freed as `client_gone`.
    """
    user = "u7"
    socket = await stage.open("/ws/echo/", user)
    socket.transport.pause_reading()  # from now on the client's library answers no protocol ping
    began = time.monotonic()
    assert await stage.check(user) == {"alive"}
    assert time.monotonic() - began < PACE.heartbeat, "too slow to prove anything"
    bound = PACE.heartbeat + PACE.pong + PING_LATE_SECONDS + PACE.beat + MARGIN
    await stage.ended(user, "client_gone", within=bound - (time.monotonic() - began))
    socket.transport.abort()


async def without_a_log_in(stage: Stage) -> None:
    await stage.same(None, echo)
    async with stage.open("/private/", None) as socket:
        assert await close_of(socket) == ([], 4401, "")
    with pytest.raises(InvalidStatus) as caught:
        await stage.open("/nowhere/", None)
    assert caught.value.response.status_code == 403
    assert stage.database.query("SELECT count(*) FROM connections_managerrecord WHERE user_id IS NULL") == [(0,)]
