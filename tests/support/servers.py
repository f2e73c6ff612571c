"""Real server processes, which a test can kill, freeze and drain."""

import asyncio
import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.support.databases import Database
from tests.support.processes import environment, of_database, overrides

START_SECONDS = 30  # a server starts in two seconds, and far more slowly during a full test run on two cores


def free_port() -> int:
    """A port that no process listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One process of `manage.py serve` (or of another command) on a database. The fixture `serve` makes and ends it."""

    def __init__(
        self,
        database: Database,
        log: Path,
        *,
        kind: str = "daphne",
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        command: list[str] | None = None,
        **connections: object,
    ) -> None:
        self.database = database
        self.kind = kind
        self.port = port or free_port()
        self.log = log
        self._command = command or [
            "manage.py", "serve", "--host", "127.0.0.1", "--port", str(self.port), "--server", kind,
        ]  # fmt: skip
        self._env = of_database(database) | overrides(connections) | dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None

    # --- The process and its addresses

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server was not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def output(self) -> str:
        """All that the process has written to stdout and stderr."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    # --- Start, signals and end

    def start(self, *, ready: str = "/healthz", within: float = START_SECONDS) -> "Server":
        """Start the process and wait until GET `ready` answers 200. After the process has ended, a second call starts
        it again, as a new node.
        """
        assert self._process is None or not self.running, "the server is running"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C in the terminal of the tests does not reach the server
                **environment(self._env),
            )
        self.wait_until(ready, within=within)
        return self

    def wait_until(self, path: str, *, status: int = 200, within: float = START_SECONDS) -> None:
        """Wait until GET `path` answers `status`."""
        deadline = time.monotonic() + within
        last: object = "nothing"
        while time.monotonic() < deadline:
            assert self.running, f"the server ended with {self.process.returncode}:\n{self.output()}"
            try:
                last = self.get(path, timeout=1)[0]
            except (OSError, http.client.HTTPException) as error:
                last = error
            if last == status:
                return
            time.sleep(0.05)
        raise AssertionError(f"{path} answered {last}, not {status}, for {within} s:\n{self.output()}")

    def get(self, path: str, *, cookie: str = "", timeout: float = 10) -> tuple[int, str]:
        """The status and the body of a GET. Redirects are not followed."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server's process."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL and wait: the process ends without closing anything."""
        self.signal(signal.SIGKILL)
        self.process.wait(10)

    def freeze(self) -> None:
        """Send SIGSTOP: the sockets stay open, and nothing in the process runs. If the process was stopped in the
        middle of a write, which would lock SQLite for all other processes, let it go on and try again.
        """
        for _ in range(50):
            self.signal(signal.SIGSTOP)
            if self.database.writable():
                return
            self.thaw()
            time.sleep(0.01)
        raise AssertionError("the server was always found in the middle of a write")

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Send SIGTERM, which makes the server drain and end; `wait` and `ended` wait for its end."""
        self.signal(signal.SIGTERM)

    def wait(self, within: float = 15) -> int:
        """Wait for the end of the process and return its exit code, which is negative after a signal."""
        return self.process.wait(within)

    async def ended(self, within: float = 15) -> int:
        """Do as `wait`, in a thread, so that the clients of this event loop go on."""
        return await asyncio.to_thread(self.wait, within)

    def clean_up(self) -> None:
        """Kill the process and all processes that it has started, whatever their state."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
