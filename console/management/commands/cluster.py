"""The demo on a cluster: PostgreSQL, Valkey and three nodes, all on this machine, to try out kills and drains."""

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, connection, connections

from connections.management.base import table
from console import settings
from console.demo import stores
from console.demo.command import DemoCommand
from console.demo.processes import Child, free_port
from console.demo.scene import Place, Scene, scene

NODES = 3
SERVERS = ("daphne", "daphne", "uvicorn")


class Command(DemoCommand):
    help = "Serve the demo on PostgreSQL, Valkey and three nodes, on loopback, until Ctrl-C."
    make = "cluster"

    def handle(self, *args: Any, **options: Any) -> None:
        first = options["port"]
        missing = stores.missing_wheels()
        if missing:
            raise CommandError(f"{' and '.join(missing)} can't be imported: run make install first.")
        self.refuse_ports(first, NODES)
        folder = self.folder(f".cluster/{first}")
        with _alone(folder):
            self.run_until_signal(lambda: self.show(first, folder, options))

    def show(self, first: int, folder: Path, options: dict[str, Any]) -> None:
        live = options["live"]
        places = [Place(f"node-{n + 1}", first + n, server) for n, server in enumerate(SERVERS)]
        doomed = Place(f"node-{NODES + 1}", free_port())
        try:
            self.say(f"Starting the cluster, which takes {'15' if live else '25'} seconds …", options)
            with stores.running(folder) as started, _using(started):
                call_command("migrate", interactive=False, verbosity=0)
                with scene(places, doomed, folder, live=live) as stage:
                    self.present_cluster(stage, started, folder, options)
                    self.watch(stage, options)
            self.say("No node is left, and the cluster has ended.", options)
        except KeyboardInterrupt:
            self.say("\nThe cluster has ended, and all that it started.", options)

    def present_cluster(
        self, stage: Scene, started: dict[str, stores.Store], folder: Path, options: dict[str, Any]
    ) -> None:
        nodes = [
            {"name": place.name, "address": place.url, "server": place.server, "pid": node.process.pid}
            for place, node in stage.nodes.items()
        ]
        kept = [
            {"name": stores.TITLES[name], "address": store.url, "server": "", "pid": store.pid}
            for name, store in started.items()
        ]
        variables = {
            "DATABASE_URL": started[stores.POSTGRES].url,
            "CHANNEL_LAYER_URL": started[stores.VALKEY].url,
        }
        lines = [
            *table([*nodes, *kept], ["name", "pid", "server", "address"], ""),
            "",
            f"Kill one (kill -9 {nodes[0]['pid']}), or drain it, and watch the console of another: its clients come",
            f"back on the others. node-{NODES + 1} is the one that was killed for grace.",
            f"The logs are in {folder}. For the commands:",
            "",
            *(f"export {name}='{value}'" for name, value in variables.items()),
            "",
            "Ctrl-C ends the cluster and everything it started.",
        ]
        self.present(next(iter(stage.nodes)), {"nodes": nodes, "environment": variables}, lines, options)

    def watch(self, stage: Scene, options: dict[str, Any]) -> None:
        """Wait until no node is left or a signal comes. Raises DiedError if the clients' process has ended."""
        left = dict(stage.nodes)
        while left:
            self.look()
            for place in [place for place, node in left.items() if not node.running]:
                self.say(f"{time.strftime('%H:%M:%S')}  {place.name} {_ended(left.pop(place))}.", options)
            if not stage.clients.running:
                raise stage.clients.died()


def _ended(node: Child) -> str:
    code = node.process.returncode
    if code == 0:
        return "was drained"
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended by itself with {code}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock this folder against a second start, also before the ports are in use. The lock ends with the process."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError("This cluster is starting or running already. Stop it, or choose other ports.") from None
        yield


@contextmanager
def _using(started: dict[str, stores.Store]) -> Iterator[None]:
    """Use these stores as database and bus, in this process and in its children."""
    url = started[stores.POSTGRES].url
    os.environ |= {"DATABASE_URL": url, "CHANNEL_LAYER_URL": started[stores.VALKEY].url}
    del connections[DEFAULT_DB_ALIAS]
    connections.settings |= connections.configure_settings({DEFAULT_DB_ALIAS: settings.database(url)})
    try:
        yield
    finally:
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]  # PostgreSQL's backend has it
