"""The demo's scene: nodes, one of which is killed, and their clients."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from uuid import uuid4

from django.conf import settings

from connections import database
from connections.conf import tunables
from connections.models import ManagerRecord, Node
from connections.records import lease
from console.demo import rows
from console.demo.clients import Client
from console.demo.people import BROWSERS, LOST, PEOPLE, SILENT, SOFT_LIMIT, STUCK
from console.demo.processes import HOST, Child, DiedError, child, wait_until_ready

HEARTBEAT_SECONDS = 3600  # longer than a demo lasts: silent clients stay until a roll call

_SITE_NAMES = ("ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS")  # settings of a public site; the demo is on loopback only
_WATCHED = ["-m", "console.demo.parent_watch"]


@dataclass(frozen=True, slots=True)
class Place:
    """A node of the scene: its name, its port and its server."""

    name: str
    port: int
    server: str = "daphne"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


@dataclass(frozen=True, slots=True)
class Scene:
    nodes: dict[Place, Child]
    clients: Child


@contextmanager
def scene(places: list[Place], doomed: Place, folder: Path, *, live: bool) -> Iterator[Scene]:
    """Serve the demo on loopback while the block runs. The `doomed` node is killed before the block begins.

    The block begins once everything is ready to be shown. `folder` is for the logs. Raises rows.RefusedError and
    processes.DiedError.
    """
    rows.refuse_shared_database()
    database.use_wal()  # now, before the servers open the file
    rows.clear()
    with ExitStack() as stack:
        nodes = {place: stack.enter_context(_serve(place, folder, live=live)) for place in [*places, doomed]}
        stack.callback(_ask_all_to_end, nodes)  # all at once, before the waits for each
        users = rows.make_people()  # while the servers start
        with (
            rows.sessions(users) as cookies,
            child("The clients", ["-m", "console.demo.clients"], dict(os.environ), folder / "clients.log") as clients,
        ):
            for place, node in nodes.items():
                wait_until_ready(node, place.port)
            clients.write_line(json.dumps([asdict(one) for one in _make_clients(cookies, places, doomed)]))
            clients.read_line()
            held = ManagerRecord.objects.counted().filter(user=users[STUCK]).count()
            if held != SOFT_LIMIT:
                raise DiedError(f"{STUCK} holds {held} managers, and not {SOFT_LIMIT}. The logs are in {folder}.")
            nodes.pop(doomed).kill()
            if not live:
                _wait_until_lost(doomed, nodes[places[0]])
            yield Scene(nodes, clients)


def _ask_all_to_end(nodes: dict[Place, Child]) -> None:
    for node in nodes.values():
        node.ask_to_end()


def _serve(place: Place, folder: Path, *, live: bool) -> AbstractContextManager[Child]:
    command = [*_WATCHED, "serve", "--host", HOST, "--port", str(place.port), "--server", place.server]
    return child(f"The server {place.name}", command, _environment(place.name, live=live), folder / f"{place.name}.log")


def _environment(node: str, *, live: bool) -> dict[str, str]:
    """Return the environment of a server: the caller's, with the settings that the demo depends on."""
    env = {name: value for name, value in os.environ.items() if name not in _SITE_NAMES}
    env |= {
        "CONNECTIONS_NODE_NAME": node,
        "CONNECTIONS_SOFT_LIMIT": str(SOFT_LIMIT),
        "CONNECTIONS_ENFORCE": "on",
    }
    if not live:
        env |= {"CONNECTIONS_SWEEP_SECONDS": "0", "CONNECTIONS_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS)}
    return env


def _make_clients(cookies: dict[str, str], places: list[Place], doomed: Place) -> list[Client]:
    """Return the clients of all users, spread over the nodes."""
    dice = Random(6)
    clients: list[Client] = []
    origins = [place.url for place in places]

    def add(name: str, at: list[str], *, answers: bool) -> None:
        clients.append(
            Client(
                user=name,
                cookie=f"{settings.SESSION_COOKIE_NAME}={cookies[name]}",
                origins=at,
                device=str(uuid4()),
                browser=dice.choice(BROWSERS),
                answers=answers,
                # The stuck user's tabs don't reload, since a connect would free her managers.
                reloads=name != STUCK,
            )
        )

    def from_the(number: int) -> list[str]:
        first = number % len(origins)
        return origins[first:] + origins[:first]

    for _ in range(LOST):
        add(STUCK, [doomed.url], answers=False)
    for number in range(SILENT):
        add(STUCK, from_the(number), answers=False)
    for person in PEOPLE:
        for number in range(person.tabs):
            add(person.name, from_the(number), answers=True)
    return clients


def _wait_until_lost(doomed: Place, witness: Child) -> None:
    """Wait until the killed node could be fenced: its lease is over, and another node is a steady witness."""
    values = tunables()
    deadline = time.monotonic() + 3 * values.lease_seconds + 10
    lost = Node.objects.get(name=doomed.name).pk
    while lost not in lease.would_fence(values, database.now()):
        if not witness.running:
            raise witness.died()
        if time.monotonic() > deadline:
            raise DiedError(f"The killed node did not lapse. The log of another one is {witness.log}.")
        time.sleep(0.1)
