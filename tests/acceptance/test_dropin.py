"""The consumers of an adopter's project (tests/dropin) behave wrapped as they do bare, on both servers."""

import asyncio
import json
import re
from uuid import UUID

import pytest

from tests.support.clients import run
from tests.support.databases import Database
from tests.support.dropin_scenes import (
    EVERY_BYTE,
    FRAMES,
    PACE,
    Stage,
    answered,
    close_of,
    declined,
    echo,
    frames_of_ours,
    half_open,
    handler_fails,
    no_frame_of_ours,
    room,
    sync,
    versioned,
    without_a_log_in,
)
from tests.support.http_browser import HttpBrowser
from tests.support.processes import manage_each
from tests.support.scenes import Serve, records
from tests.support.servers import Server


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
def test_wrapped_consumers_behave_as_they_did_bare(kind: str, serve: Serve, dropin_database: Database) -> None:
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
        assert reason == ("" if kind == "daphne" else "so long")  # Daphne drops header and reason
        await stage.ended("u2", *["app_closed"] * 3)

    async def refuses() -> None:
        assert [status for status, *_ in await stage.same("u3", declined)] == [403, 403]
        wanted = ["app_closed"] * 2
        if kind == "uvicorn":  # Daphne does not support the ASGI extension for it
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


def shows(browser: HttpBrowser, path: str, *words: str) -> None:
    answer = browser.get(path)
    assert answer.status == 200, (path, answer.status, answer.text[-2000:])
    assert [word for word in words if word not in answer.text] == [], path


def read_the_console(lead: HttpBrowser, key: UUID, name: str, manager: str, run_page: str) -> None:
    for query in ("", "?q=1@example", f"?q=%23{key}", "?status=holding", "?sort=username", "?sort=id"):
        shows(lead, f"/support/users/{query}", name)
    for query in ("?q=%237", "?status=disabled"):
        shows(lead, f"/support/users/{query}")
    shows(lead, f"/support/users/{key}/", name, str(key), manager[:8], "/assets/console/")
    shows(lead, run_page, name)
    for page in ("", "runs/", "nodes/", "audit/"):
        shows(lead, f"/support/{page}", "Recovery Console")
    shows(lead, "/support/audit.csv", name, str(key))


def read_the_admin(admin: HttpBrowser, key: UUID, name: str, manager: str) -> None:
    for model in ("managerrecord", "recoveryrun", "usergate", "auditentry", "refusal", "node"):
        found = model not in ("refusal", "node")
        shows(admin, f"/admin/connections/{model}/?q=", *([name] if found else []))
        if found:
            shows(admin, f"/admin/connections/{model}/?q=%23{key}", name)
            shows(admin, f"/admin/connections/{model}/?q=u1%40", name)
    shows(admin, f"/admin/connections/managerrecord/{manager}/change/", name)


def close_in_the_admin(admin: HttpBrowser, manager: str) -> None:
    answer = admin.post(
        "/admin/connections/managerrecord/",
        action="close_managers",
        _selected_action=manager,
        confirmed="1",
        chosen=manager,
        reason="a ticket",
    )
    assert answer.status == 302, answer.text[-2000:]


def check_others_may_not_act(server: Server, database: Database, key: UUID) -> None:
    """A viewer's actions are denied and recorded, and a stranger is sent to the log-in."""
    viewer = HttpBrowser(server, database.user("viewer"))
    viewer.get("/support/")
    assert viewer.post(f"/support/users/{key}/recover/", reason="curious").status == 403
    action = {"action": "recover_users", "_selected_action": str(key), "reason": "curious"}
    assert viewer.post("/admin/connections/managerrecord/", **action).status == 403
    assert (
        database.query("SELECT actor, reason FROM connections_auditentry WHERE action = 'denied'")
        == [("viewer@example.org", "curious")] * 2
    )
    stranger = HttpBrowser(server).get("/support/users/")
    assert (stranger.status, stranger.location) == (302, "/welcome/?next=%2Fsupport%2Fusers%2F")


def check_the_commands(database: Database, key: UUID, name: str) -> None:
    """They find a user by name and by key. (The limit was set to 7 from the console.)"""
    found, by_key, none, limited, listed, recovered = manage_each(
        [
            ["diagnose_user", name, "--no-roll-call", "--json"],
            ["diagnose_user", f"#{key}", "--no-roll-call", "--json"],
            ["diagnose_user", "#7", "--no-roll-call"],
            ["set_limit", name, "9", "--pool", "default", "--json"],
            ["list_managers", "--user", name, "--state", "all", "--json"],
            ["recover_user", name.upper(), "--dry-run", "--json"],
        ],
        db=database,
    )
    assert (found.json["user_id"], found.json["username"], found.json["pool"]) == (str(key), name, "default")
    assert (found.json["soft_limit"], by_key.json["user_id"]) == (7, str(key))
    assert (none.code, limited.json["soft_limit"]) == (1, 9)
    assert {(row["user_id"], row["username"]) for row in listed.json} == {(str(key), name)}
    assert recovered.json["outcome"] == "nothing_to_do"


def test_console_admin_and_commands_work_with_the_projects_own_user_model(
    serve: Serve, dropin_database: Database
) -> None:
    """Its users have a UUID, an email as username and no names. It has ATOMIC_REQUESTS and its own base.html."""
    stage = Stage(serve(dropin_database, ready="/readyz", **PACE.settings()), dropin_database)
    key, name = UUID(dropin_database.user("u1").id), "u1@example.org"
    admin = HttpBrowser(stage.server, dropin_database.user("admin"))

    async def main() -> None:
        async with stage.open("/ws/echo/", "u1") as first, stage.open("/ws/echo/", "u1") as second:
            await first.send("hello")
            await second.send("hello")
            run_page = await asyncio.to_thread(stage.post, f"users/{key}/recover/", reason="a ticket", dry_run="on")
            await asyncio.to_thread(
                stage.post, f"users/{key}/limit/", reason="a launch", pool="default", soft_limit="7", expires_in="2h"
            )
            one, other = (record.id for record in records(dropin_database, dropin_database.user("u1"), "live"))
            await asyncio.to_thread(read_the_console, stage.lead, key, name, one, run_page)
            await asyncio.to_thread(read_the_admin, admin, key, name, one)
            await asyncio.to_thread(stage.post, f"managers/{one}/close/", reason="a ticket")
            await asyncio.to_thread(stage.post, "users/recover/", user_ids=f"{key}", reason="a ticket")
            await asyncio.to_thread(close_in_the_admin, admin, other)
            assert {(await close_of(first))[1], (await close_of(second))[1]} == {4410}

    run(main())
    check_others_may_not_act(stage.server, dropin_database, key)
    check_the_commands(dropin_database, key, name)
    assert "rror" not in stage.server.output()
