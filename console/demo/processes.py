"""The processes of the demo: all are on a leash, and all end with it."""

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

from console.demo.leash import DRAIN_SECONDS

HOST = "127.0.0.1"
START_SECONDS = 60.0  # a server takes two to four; this is for a machine that is busy with other things


class Died(Exception):
    """A process of the demo ended before its time. The message is for people."""


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what a server lately left is free
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
    """One process: it ends when its standard input does. What it says on standard error is in its log."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env=env,
                start_new_session=True,  # the terminal's Ctrl-C is for the demo, which ends the others in order
            )

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        """The next line it says, waiting for it; empty once it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def kill(self) -> None:
        """SIGKILL: it ends without a word to anybody."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Let go of the leash, and wait until it has ended in its own way."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(DRAIN_SECONDS + 2)
        except subprocess.TimeoutExpired:
            self.kill()

    def died(self) -> Died:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        last = f": {lines[-1]}" if lines else ""
        return Died(f"{self.name} ended by itself with {self.process.poll()}{last} (its log is {self.log})")


@contextmanager
def child(name: str, command: list[str], env: dict[str, str], log: Path) -> Iterator[Child]:
    started = Child(name, command, env, log)
    try:
        yield started
    finally:
        started.end()


def server(name: str, port: int, env: dict[str, str], log: Path) -> "contextmanager[Child]":  # type: ignore[valid-type]
    raise NotImplementedError


def wait_until_ready(server: Child, port: int) -> None:
    """Until GET /readyz answers 200. Raises Died."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if not server.running:
            raise server.died()
        with suppress(OSError, http.client.HTTPException), closing(http.client.HTTPConnection(HOST, port, timeout=2)) as http_:
            http_.request("GET", "/readyz")
            if http_.getresponse().status == http.client.OK:
                return
        time.sleep(0.1)
    raise Died(f"{server.name} was not ready within {START_SECONDS:.0f} s (its log is {server.log})")


def environment(port: int, node: str, *, live: bool) -> dict[str, str]:
    """For a server of the demo. What it shows depends on the limit; the rest of the caller's settings stands."""
    env = {name: value for name, value in os.environ.items() if name not in _PUBLIC}
    env |= {
        "CONNECTIONS_NODE_NAME": node,
        "CONNECTIONS_SOFT_LIMIT": "20",
        "CONNECTIONS_BURST": "5",
        "CONNECTIONS_ENFORCE": "on",
    }
    return env


_PUBLIC = ("ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS")  # a site's own names: the demo is on loopback only
_ = signal
