"""The production server: this node, its signals, and the traps of both servers."""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage
from django.core.management.base import CommandError, CommandParser
from django.db import OperationalError
from django.db.migrations.executor import MigrationExecutor
from django.utils.module_loading import import_string

from connections import database
from connections.checks import faults
from connections.conf import tunables
from connections.database.requirements import check_databases, check_timeouts, why_no_connection
from connections.management.base import Command as Base
from connections.node.runtime import NodeRuntime

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Command(Base):
    help = "Serve until SIGTERM or SIGINT, then drain and exit 0."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--server", choices=["daphne", "uvicorn"], default="daphne")

    def handle(self, *args: Any, **options: Any) -> None:
        host, port = options["host"], options["port"]
        if not 1 <= port <= 65_535:
            raise CommandError(f"--port {port} is not between 1 and 65535.")
        self.refuse_unsafe(host)
        self.refuse_inconsistent()
        self.refuse_unsuitable()
        self.refuse_unmigrated()
        self.warn_of_timeouts()
        database.use_wal()
        database.current().close()
        app = import_string(settings.ASGI_APPLICATION)
        values = tunables()
        name = values.node_name or f"{socket.gethostname()}:{port}"
        serve = _server(options["server"])
        try:
            serve(app, host, port, values, name, self.ready)
        except OSError as error:
            raise CommandError(f"Can't listen on {host}:{port}: {error}") from error

    async def ready(self, node: NodeRuntime) -> None:
        """Called on the event loop once the server listens."""
        self.stderr.write(f"Node {node.name} (pid {os.getpid()}) is serving.")
        await asyncio.sleep(0)

    def refuse_unsafe(self, host: str) -> None:
        if host in LOOPBACK or settings.DEBUG:
            return
        missing = getattr(settings, "LEFT_AT_DEFAULTS", [])  # ours: a project of one's own sets these in its own way
        if missing:
            raise CommandError(
                f"Serving on {host} makes this reachable from outside, so set {' and '.join(missing)} in the "
                "environment first."
            )

    def refuse_inconsistent(self) -> None:
        found = faults(tunables())
        if found:
            raise CommandError(" ".join(sentence for _, sentence in found))

    def refuse_unsuitable(self) -> None:
        """Refuse databases on which a guarantee would be void; warn of those on which something is only slower."""
        found = check_databases()
        serious = [message for message in found if message.is_serious()]
        if serious:
            raise CommandError(" ".join(_said(message) for message in serious))
        for message in found:
            self.stderr.write(f"Warning: {_said(message)}")

    def warn_of_timeouts(self) -> None:
        for message in check_timeouts(databases=[database.current().alias]):
            self.stderr.write(f"Warning: {_said(message)}")

    def refuse_unmigrated(self) -> None:
        try:
            executor = MigrationExecutor(database.current())
            plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        except OperationalError as error:
            raise CommandError(f"The database does not answer: {why_no_connection(error)}") from error
        if plan:
            raise CommandError("The database has not been migrated: run `python manage.py migrate` first.")


def _said(message: CheckMessage) -> str:
    return f"{message.msg} {message.hint or ''}".strip()


def _server(kind: str) -> Callable[..., None]:
    """The function that serves, of the one server that is asked for: the other is not imported."""
    if kind == "daphne":
        from connections.server.daphne import serve_daphne

        return serve_daphne
    from connections.server.uvicorn import serve_uvicorn

    return serve_uvicorn
