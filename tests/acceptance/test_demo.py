"""`manage.py demo` shows a stuck user, whom a command recovers, and leaves nothing running."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.clients import connect, eventually, run
from tests.support.databases import Database
from tests.support.demo import QUICK_SETTINGS, alive, all_gone, count_held, listens, log_in, process_tree
from tests.support.processes import manage, manage_each, manage_json
from tests.support.servers import Server, free_port

READY_SECONDS = 60  # a start takes 13 s on the defaults, and longer on two cores that run other tests too
QUICK_LIVE = QUICK_SETTINGS | {"heartbeat_seconds": 3, "pong_seconds": 2, "sweep_seconds": 1}

Demo = Callable[..., Server]


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "db.sqlite3"
    assert manage("migrate", "--no-input", db=Database(f"sqlite:///{path}")).code == 0
    return path


@pytest.fixture
def empty(migrated: Path, tmp_path: Path) -> Database:
    """A migrated database without users."""
    shutil.copy(migrated, tmp_path)
    return Database(f"sqlite:///{tmp_path / migrated.name}")


@pytest.fixture
def demo(serve: Callable[..., Server], empty: Database) -> Iterator[Demo]:
    """A function that starts the demo and waits until it says that it is ready. All its processes end with the test."""
    started: list[set[int]] = []

    def start(*arguments: str, port: int | None = None, **settings: object) -> Server:
        port = port or free_port()
        command = ["manage.py", "demo", "--port", str(port), *arguments]
        server = serve(empty, start=False, port=port, command=command, **settings)
        server.start(ready="/healthz", within=READY_SECONDS)
        deadline = time.monotonic() + READY_SECONDS
        while "Ctrl-C ends the demo" not in server.output():
            assert server.running, server.output()
            assert time.monotonic() < deadline, server.output()
            time.sleep(0.1)
        started.append(process_tree(server.pid))
        return server

    yield start
    for pid in set().union(*started):
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


async def grace_chats(server: Server, database: Database) -> None:
    client = await connect(server, log_in(server, "grace"))
    assert (await client.expect("ready"))["live"] == 4
    await client.close()
    await eventually(lambda: count_held(database, "grace") == 3, why="her new connect is released")


def end_by_ctrl_c(server: Server) -> None:
    """End the demo, and check that nothing of it goes on."""
    processes = process_tree(server.pid)
    assert len(processes) >= 3, "a server and its clients belong to it"
    server.signal(signal.SIGINT)
    assert server.wait() in (0, 130)
    assert all_gone(processes)
    assert not listens(server.port)


def check_a_second_demo_is_refused(running: Server, database: Database) -> None:
    same_port = manage("demo", "--port", running.port, db=database)
    assert same_port.code == 1
    assert f"Port {running.port} is in use" in same_port.err
    same_database = manage("demo", "--port", free_port(), db=database)
    assert same_database.code == 1
    assert "already running" in same_database.err


def test_grace_is_stuck_and_recovered_and_the_next_demo_begins_afresh(demo: Demo, empty: Database) -> None:
    server = demo(**QUICK_SETTINGS)
    said = " ".join(server.output().split())
    assert all(f"{name} demo" in said for name in ("viewer", "support", "lead", "ada", "grace"))
    assert "the automatic sweep is paused and the heartbeat is slow" in said
    assert "--live" in said
    assert count_held(empty, "grace") == 20
    diagnosis = manage_json("diagnose_user", "grace", db=empty, **QUICK_SETTINGS)
    assert {cause["code"]: cause["count"] for cause in diagnosis["causes"]}["node_lost"] == 12
    assert diagnosis["suggestion"] == "recover"
    assert manage_json("diagnose_user", "ada", "--no-roll-call", db=empty)["held"] == 3

    support = log_in(server, "support")
    assert server.get("/console/users/?q=grace", cookie=support.cookie)[0] == 200

    report = manage_json("recover_user", "grace", "--reason", "cannot connect", db=empty, **QUICK_SETTINGS)
    assert (report["outcome"], report["before"], report["after"], report["spared"]) == ("recovered", 20, 3, 3)
    assert report["freed"] == {"node_lost": 12, "unresponsive": 5}

    run(grace_chats(server, empty))
    end_by_ctrl_c(server)

    again = demo(port=server.port, **QUICK_SETTINGS)
    assert count_held(empty, "grace") == 20
    assert manage_json("list_managers", "--user", "grace", "--state", "closed", db=empty) == []
    assert {node["name"] for node in manage_json("list_nodes", db=empty)} == {"demo-1", "demo-2"}
    assert log_in(again, "viewer").session

    check_a_second_demo_is_refused(again, empty)
    assert count_held(empty, "grace") == 20, "a refused start leaves the running demo alone"

    processes = process_tree(again.pid)
    again.kill()  # after SIGKILL the demo can't stop its children: they have to notice its end
    asyncio.run(eventually(lambda: all_gone(processes), within=15, why="its children end with it"))
    assert not listens(again.port)


def test_with_live_settings_grace_recovers_without_staff(demo: Demo, empty: Database) -> None:
    server = demo("--live", **QUICK_LIVE)
    assert "default timings" in server.output()
    asyncio.run(eventually(lambda: count_held(empty, "grace") == 3, within=20, why="only her living managers are held"))
    closed = empty.query("SELECT close_reason, count(*) FROM connections_managerrecord GROUP BY 1 ORDER BY 1")
    assert {("node_lost", 12), ("unresponsive", 5)} <= {(reason, count) for reason, count in closed}
    server.terminate()
    assert server.wait() == 0


def test_a_demo_that_is_ended_while_it_starts_leaves_nothing_running(
    serve: Callable[..., Server], empty: Database
) -> None:
    port = free_port()
    server = serve(empty, start=False, port=port, command=["manage.py", "demo", "--port", str(port)])
    server.start(ready="/healthz", within=READY_SECONDS)  # the server answers, and other parts may still start
    processes = process_tree(server.pid)
    assert len(processes) > 1
    assert "Ctrl-C ends" not in server.output()
    server.terminate()
    assert server.wait() == 0
    assert all_gone(processes)
    assert empty.query("SELECT * FROM django_session") == [], "the log-ins of its clients end with it"


def test_the_demo_refuses_a_database_with_other_users_and_changes_nothing(database: Database) -> None:
    users = "SELECT id, username, email, password, is_staff, is_active FROM auth_user ORDER BY id"
    before = database.query(users)
    result = manage("demo", "--port", free_port(), db=database)
    assert result.code == 1
    assert "not the demo's" in result.err
    assert database.query(users) == before
    assert database.query("SELECT * FROM connections_node") == []


def test_the_demo_refuses_a_project_with_another_user_model(dropin_database: Database) -> None:
    result = manage("demo", "--port", free_port(), db=dropin_database)
    assert result.code == 1
    assert "but AUTH_USER_MODEL is accounts." in result.err
    assert dropin_database.query("SELECT * FROM connections_node") == []


def test_the_demo_refuses_a_superuser_with_the_name_of_a_demo_user(empty: Database) -> None:
    empty.add_users(["ada"], superuser=True)
    result = manage("demo", "--port", free_port(), db=empty)
    assert result.code == 1
    assert "user 'ada'" in result.err
    assert len(empty.query("SELECT id FROM auth_user")) == 1


def test_an_invalid_port_is_refused(empty: Database) -> None:
    results = manage_each([["demo", "--port", port] for port in ("0", "65536", "x")], db=empty)
    assert [result.code for result in results] == [1, 1, 2]
