"""Around the consumers of somebody else (tests/dropin): each behaves wrapped as it did bare, on both servers."""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from uuid import UUID

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from tests.support.clients import eventually, run
from tests.support.databases import Database, TestUser
from tests.support.logins import Browser
from tests.support.processes import manage_each
from tests.support.scenes import MARGIN, Pace, Serve, reasons, records
from tests.support.servers import Server

PACE = Pace(heartbeat=3.0)
SERVER_LOOKS = 2.0  # seconds: Daphne and uvicorn are that late with a protocol ping at most

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
        self.lead = Browser(server, database.user("lead"))

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
        """What a scene came to with the consumers as they were; wrapped it comes to the same."""
        bare = await scene(lambda kind, *more: self.open(f"/bare/{kind}/", user, *more))
        wrapped = await scene(lambda kind, *more: self.open(f"/ws/{kind}/", user, *more))
        assert wrapped == bare, scene.__name__
        return bare

    def post(self, path: str, **form: str) -> str:
        """What staff asks of the console. Where it leads."""
        self.lead.get("/support/users/")
        answer = self.lead.post(f"/support/{path}", **form)
        assert answer.status == 303, (answer.status, answer.text[-2000:])
        return answer.location

    async def check(self, user: str) -> set[str]:
        """What a roll call from the console finds of a user's managers, once all have answered."""
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
        """Waits until all records of a user are closed, for these reasons."""
        mine: TestUser = self.database.user(user)
        await eventually(lambda: not records(self.database, mine, "live", "closing"), within=within, why=user)
        assert sorted(reasons(self.database, mine).elements()) == sorted(wanted), user


async def close_of(socket: ClientConnection) -> tuple[list[str | bytes], int | None, str | None]:
    """What else came, and the code and the reason at the end."""
    frames: list[str | bytes] = []
    try:
        async with asyncio.timeout(8):
            while True:
                frames.append(await socket.recv())
    except ConnectionClosed:
        return frames, socket.close_code, socket.close_reason


# --- Scenes that come to something, which is compared


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
        # One leaves alone: Channels' consumers send to a room as they do, also to who is just leaving.
        await other.close()
        return [*heard, await one.recv()]


async def sync(door: Door) -> Any:
    async with door("sync") as one, door("sync") as other:
        await one.send("hello")
        return [await one.recv(), await other.recv()]


# --- Scenes with an end of ours


async def handler_fails(stage: Stage) -> None:
    for kind in ("raises", "raises-at-once"):
        async with stage.open(f"/ws/{kind}/", "u4") as socket:
            if kind == "raises":
                await socket.send("go")
            assert (await close_of(socket))[:2] == ([], 4500)
    await stage.ended("u4", "handler_failed", "handler_failed")


async def no_frame_of_ours(stage: Stage) -> None:
    """Not in a roll call, not when evicted, not at a reset: the code alone speaks."""
    user = "u5"
    sockets = [await stage.open("/private/", user) for _ in range(3)]  # one above its soft limit
    assert await close_of(sockets[0]) == ([], 4409, "")
    await stage.check(user)
    await stage.reset(user)
    for socket in sockets[1:]:
        assert await close_of(socket) == ([], 4411, "")
    await stage.ended(user, "evicted", "reset", "reset")


async def frames_of_ours(stage: Stage) -> None:
    """Where they may be sent, a client answers our pings, and its consumer never hears of that."""
    user = "u6"
    async with stage.open("/orders/", user) as socket:
        checking = asyncio.create_task(stage.check(user))
        ping = json.loads(await socket.recv())
        assert ping.keys() == {"type", "nonce"}
        for nonce in ("theirs", ping["nonce"]):
            await socket.send(json.dumps({"type": "pong", "nonce": nonce}))
        await socket.send('["last"]')
        # A room says everything again to everybody in it.
        assert [json.loads(await socket.recv()) for _ in range(2)] == [{"type": "pong", "nonce": "theirs"}, ["last"]]
        assert await checking == {"alive"}
        await stage.reset(user)
        frames, code, _ = await close_of(socket)
        assert ([json.loads(frame)["type"] for frame in frames], code) == (["closing"], 4411)
    await stage.ended(user, "reset")


async def half_open(stage: Stage) -> None:
    """Alive to a roll call until the server's own ping says that it is gone. No zombie of ours."""
    user = "u7"
    socket = await stage.open("/ws/echo/", user)
    socket.transport.pause_reading()  # its library answers no ping from now on
    began = time.monotonic()
    assert await stage.check(user) == {"alive"}
    assert time.monotonic() - began < PACE.heartbeat, "too slow to prove anything"
    bound = PACE.heartbeat + PACE.pong + SERVER_LOOKS + PACE.beat + MARGIN
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


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
def test_their_consumers_behave_as_they_did(kind: str, serve: Serve, dropin_database: Database) -> None:
    server = serve(dropin_database, kind=kind, ready="/readyz", **PACE.settings())
    stage = Stage(server, dropin_database)

    async def echoes() -> None:
        heard = await stage.same("u1", echo)
        assert {"plain", EVERY_BYTE, "in three pieces", FRAMES[7]} <= set(heard)
        assert max(map(len, heard)) >= 300_000
        await stage.ended("u1", "client_closed")

    async def ends() -> None:
        (agreed, (frames, code, reason), *_) = await stage.same("u2", versioned)
        assert (agreed, frames, code) == (("v2", None if kind == "daphne" else "7"), [], 4321)
        assert reason == ("" if kind == "daphne" else "so long")  # Daphne drops both
        await stage.ended("u2", *["app_closed"] * 3)

    async def refuses() -> None:
        assert [status for status, *_ in await stage.same("u3", declined)] == [403, 403]
        wanted = ["app_closed"] * 2
        if kind == "uvicorn":  # Daphne has no such response
            assert await stage.same("u3", answered) == [(410, b"moved away", "moved")]
            wanted.append("app_closed")
        await stage.ended("u3", *wanted)

    async def rooms() -> None:
        heard = await stage.same("u8", room)
        assert [json.loads(frame) for frame in heard[2:4]] == [{"left": 4001}] * 2
        assert (await stage.same("u9", sync))[0] == "u9@example.org: hello"
        await stage.ended("u8", *["client_closed"] * 3, "client_gone")
        await frames_of_ours(stage)

    async def main() -> None:
        await asyncio.gather(
            half_open(stage), echoes(), ends(), refuses(), rooms(), handler_fails(stage), no_frame_of_ours(stage),
            without_a_log_in(stage),
        )  # fmt: skip

    run(main())
    errors = re.findall(r"^\w[\w.]*(?:Error|Exception)\b.*", server.output(), re.MULTILINE)
    assert set(errors) == {"ValueError: a bug of theirs"}


def test_console_admin_and_commands_know_their_users(serve: Serve, dropin_database: Database) -> None:
    """Who have a UUID, an email for a username, and no names. Their site has ATOMIC_REQUESTS and its own base.html."""
    stage = Stage(serve(dropin_database, ready="/readyz", **PACE.settings()), dropin_database)
    key, name = UUID(dropin_database.user("u1").id), "u1@example.org"
    lead, admin = stage.lead, Browser(stage.server, dropin_database.user("admin"))

    def shows(browser: Browser, path: str, *words: str) -> None:
        answer = browser.get(path)
        assert answer.status == 200, (path, answer.status, answer.text[-2000:])
        assert [word for word in words if word not in answer.text] == [], path

    def reads(manager: str, run_page: str) -> None:
        for query in ("", "?q=1@example", f"?q=%23{key}", "?status=holding", "?sort=username", "?sort=id"):
            shows(lead, f"/support/users/{query}", name)
        for query in ("?q=%237", "?status=disabled"):
            shows(lead, f"/support/users/{query}")
        shows(lead, f"/support/users/{key}/", name, str(key), manager[:8], "/assets/console/")
        shows(lead, run_page, name)
        for page in ("", "runs/", "nodes/", "audit/"):
            shows(lead, f"/support/{page}", "Recovery Console")
        shows(lead, "/support/audit.csv", name, str(key))
        for model in ("managerrecord", "recoveryrun", "usergate", "auditentry", "refusal", "node"):
            found = model not in ("refusal", "node")
            shows(admin, f"/admin/connections/{model}/?q=", *([name] if found else []))
            if found:
                shows(admin, f"/admin/connections/{model}/?q=%23{key}", name)
                shows(admin, f"/admin/connections/{model}/?q=u1%40", name)
        shows(admin, f"/admin/connections/managerrecord/{manager}/change/", name)

    async def main() -> None:
        async with stage.open("/ws/echo/", "u1") as first, stage.open("/ws/echo/", "u1") as second:
            await first.send("hello")
            await second.send("hello")
            run_page = await asyncio.to_thread(stage.post, f"users/{key}/recover/", reason="a ticket", dry_run="on")
            await asyncio.to_thread(
                stage.post, f"users/{key}/limit/", reason="a launch", pool="default", soft_limit="7", expires_in="2h"
            )
            one, other = (UUID(record.id) for record in records(dropin_database, dropin_database.user("u1"), "live"))
            await asyncio.to_thread(reads, str(one), run_page)
            await asyncio.to_thread(stage.post, f"managers/{one}/close/", reason="a ticket")
            await asyncio.to_thread(stage.post, "users/recover/", user_ids=f"{key}", reason="a ticket")
            answer = await asyncio.to_thread(
                admin.post,
                "/admin/connections/managerrecord/",
                action="close_managers",
                _selected_action=str(other),
                confirmed="1",
                chosen=str(other),
                reason="a ticket",
            )
            assert answer.status == 302, answer.text[-2000:]
            assert {(await close_of(first))[1], (await close_of(second))[1]} == {4410}

    run(main())
    viewer = Browser(stage.server, dropin_database.user("viewer"))
    viewer.get("/support/")
    assert viewer.post(f"/support/users/{key}/recover/", reason="curious").status == 403
    action = {"action": "recover_users", "_selected_action": str(key), "reason": "curious"}
    assert viewer.post("/admin/connections/managerrecord/", **action).status == 403
    assert (
        dropin_database.query("SELECT actor, reason FROM connections_auditentry WHERE action = 'denied'")
        == [("viewer@example.org", "curious")] * 2
    )
    stranger = Browser(stage.server).get("/support/users/")
    assert (stranger.status, stranger.location) == (302, "/welcome/?next=%2Fsupport%2Fusers%2F")
    found, by_key, none, limited, listed, recovered = manage_each(
        [
            ["diagnose_user", name, "--no-roll-call", "--json"],
            ["diagnose_user", f"#{key}", "--no-roll-call", "--json"],
            ["diagnose_user", "#7", "--no-roll-call"],
            ["set_limit", name, "9", "--pool", "default", "--json"],
            ["list_managers", "--user", name, "--state", "all", "--json"],
            ["recover_user", name.upper(), "--dry-run", "--json"],
        ],
        db=dropin_database,
    )
    assert (found.json["user_id"], found.json["username"], found.json["pool"]) == (str(key), name, "default")
    assert (found.json["soft_limit"], by_key.json["user_id"]) == (7, str(key))
    assert (none.code, limited.json["soft_limit"]) == (1, 9)
    assert {(row["user_id"], row["username"]) for row in listed.json} == {(str(key), name)}
    assert recovered.json["outcome"] == "nothing_to_do"
    assert "rror" not in stage.server.output()
