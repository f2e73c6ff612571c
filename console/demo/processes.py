"""The processes of the demo: each watches its parent, and ends when the demo ends."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from console.demo.parent_watch import DRAIN_SECONDS

HOST = "127.0.0.1"
START_SECONDS = 60.0  # a server takes two to four; the rest is for a busy machine


class DiedError(Exception):
    """A process of the demo ended too early, or was not ready in time. The message is for users."""


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # a port that a server has just released counts as free
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class Child:
    """One Python process, with its log in a file.

    It has its own process group, so that Ctrl-C reaches only the demo, which ends its processes in order.
    """

    def __init__(self, name: str, arguments: list[str], env: dict[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env=env,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def write_line(self, line: str) -> None:
        """Write a line to its standard input. Raises DiedError if it has ended."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self.process.wait()
            raise self.died() from None

    def read_line(self) -> str:
        """Wait for the next line of its standard output. Raises DiedError if it ends first."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        if not line:
            self.process.wait()
            raise self.died()
        return line.strip()

    def kill(self) -> None:
        """Send SIGKILL to it and to its child processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ask_to_end(self) -> None:
        """Close its standard input, on which it ends by itself."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def end(self) -> None:
        """Ask it to end, wait, and kill it if it takes longer than a drain may."""
        assert self.process.stdout is not None
        self.ask_to_end()
        try:
            self.process.wait(DRAIN_SECONDS + 2)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process.stdout.close()

    def died(self) -> DiedError:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        last = f": {lines[-1]}" if lines else "."
        return DiedError(f"{self.name} ended by itself with {self.process.poll()}{last} Its log is {self.log}.")


@contextmanager
def child(name: str, arguments: list[str], env: dict[str, str], log: Path) -> Iterator[Child]:
    """Run a process that ends with the block."""
    started = Child(name, arguments, env, log)
    try:
        yield started
    finally:
        started.end()


def wait_until_ready(server: Child, port: int) -> None:
    """Wait until GET /readyz answers 200. Raises DiedError."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if not server.running:
            raise server.died()
        with suppress(OSError, http.client.HTTPException), closing(_connection(port)) as connection:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.client.OK:
                return
        time.sleep(0.1)
    raise DiedError(f"{server.name} was not ready within {START_SECONDS:.0f} s. Its log is {server.log}.")


def _connection(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(HOST, port, timeout=2)
