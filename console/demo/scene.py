"""The demo's scene: two nodes, of which one is killed, and the clients on them."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

from django.conf import settings

from connections import database, lifecycle
from connections.conf import tunables
from connections.models import ManagerRecord, Node
from console.demo import rows
from console.demo.clients import Client
from console.demo.people import BROWSERS, LOST, PEOPLE, SILENT, SOFT_LIMIT, STUCK
from console.demo.processes import HOST, Child, DiedError, child, free_port, wait_until_ready

HEARTBEAT_SECONDS = 3600  # longer than anybody watches: the silent stay until somebody asks them

_SITE_NAMES = ("ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS")  # a site's own; the demo is on loopback only
_LEASH = ["-m", "console.demo.leash"]


@contextmanager
def scene(port: int, *, live: bool) -> Iterator[list[Child]]:
    """The demo, serving on loopback while the block runs; its processes, of which none should end in it.

    Entered once everything is as it will be shown. Raises rows.RefusedError, processes.DiedError.
    """
    folder = Path(settings.BASE_DIR) / ".demo"
    folder.mkdir(exist_ok=True)
    rows.refuse_strangers()
    database.use_wal()  # now, while nobody else has the file open: the servers find it done
    rows.clear()

    def log(name: str) -> Path:
        return folder / f"{port}-{name}.log"

    def serve(name: str, at: int) -> Any:
        command = [*_LEASH, "serve", "--host", HOST, "--port", str(at)]
        return child(f"The server {name}", command, _environment(name, live=live), log(name))

    other_port = free_port()
    with serve(rows.MAIN, port) as main, serve(rows.DOOMED, other_port) as doomed:
        users = rows.make_people()  # meanwhile the servers start
        with (
            rows.sessions(users) as cookies,
            child("The clients", ["-m", "console.demo.clients"], dict(os.environ), log("clients")) as clients,
        ):
            wait_until_ready(doomed, other_port)
            wait_until_ready(main, port)
            clients.tell(json.dumps([asdict(one) for one in _cast(cookies, port, other_port)]))
            clients.hear()
            held = ManagerRecord.objects.counted().filter(user=users[STUCK]).count()
            if held != SOFT_LIMIT:
                raise DiedError(f"{STUCK} holds {held} managers, and not {SOFT_LIMIT}. The logs are in {folder}.")
            doomed.kill()
            if not live:
                _wait_until_lost(main)
            yield [main, clients]


def _environment(node: str, *, live: bool) -> dict[str, str]:
    """For a server of the demo. What is shown depends on the limit; other settings of the caller stand."""
    env = {name: value for name, value in os.environ.items() if name not in _SITE_NAMES}
    env |= {
        "CONNECTIONS_NODE_NAME": node,
        "CONNECTIONS_SOFT_LIMIT": str(SOFT_LIMIT),
        "CONNECTIONS_ENFORCE": "on",
    }
    if not live:
        env |= {"CONNECTIONS_SWEEP_SECONDS": "0", "CONNECTIONS_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS)}
    return env


def _cast(cookies: dict[str, str], port: int, other_port: int) -> list[Client]:
    """The clients of everybody. Those of one person are of few browsers, as people are."""
    dice = Random(6)
    clients: list[Client] = []

    def add(name: str, at: int, *, answers: bool) -> None:
        clients.append(
            Client(
                user=name,
                cookie=f"{settings.SESSION_COOKIE_NAME}={cookies[name]}",
                origin=f"http://{HOST}:{at}",
                device=str(uuid4()),
                browser=dice.choice(BROWSERS),
                answers=answers,
                # The stuck user's count stays as it is until somebody recovers them.
                reloads=name != STUCK,
            )
        )

    for _ in range(LOST):
        add(STUCK, other_port, answers=False)
    for _ in range(SILENT):
        add(STUCK, port, answers=False)
    for person in PEOPLE:
        for _ in range(person.tabs):
            add(person.name, port, answers=True)
    return clients


def _wait_until_lost(main: Child) -> None:
    """Until the killed node would be fenced: its lease is over, and the other one is steady enough to witness."""
    values = tunables()
    deadline = time.monotonic() + 3 * values.lease_seconds + 10
    doomed = Node.objects.get(name=rows.DOOMED).pk
    while doomed not in lifecycle.would_fence(values, database.now()):
        if not main.running:
            raise main.died()
        if time.monotonic() > deadline:
            raise DiedError(f"The killed node did not lapse. The log of the other one is {main.log}.")
        time.sleep(0.1)
