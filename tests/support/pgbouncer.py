"""A real PgBouncer before a PostgreSQL: the one on the machine, or the one that `scripts/pgbouncer` has unpacked."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psycopg

from tests.chaos.stores import Postgres
from tests.support.processes import ROOT
from tests.support.servers import free_port

START_SECONDS = 10.0
MISSING = "PgBouncer was not found. Debian: apt install pgbouncer, or make pgbouncer"


def binary() -> str | None:
    """The path of pgbouncer, if there is one. Debian has it in /usr/sbin."""
    unpacked = ROOT / ".pgbouncer" / "pgbouncer"
    if unpacked.exists():
        return str(unpacked)
    return shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


class PgBouncer:
    """`mode` is `session` or `transaction`. With `drops_options` it ignores the startup parameter `options`, as
    PgBouncer's own FAQ advises; without, it refuses connections that have one.
    """

    def __init__(self, folder: Path, postgres: Postgres, user: str, *, mode: str, drops_options: bool) -> None:
        self.port = free_port()
        self._user = postgres._user  # it does not run as root either
        self._process: subprocess.Popen[bytes] | None = None
        self._probe = f"host=127.0.0.1 port={self.port} user={user} dbname=postgres"
        self._folder = folder
        folder.mkdir(mode=0o755)
        ignored = "extra_float_digits,options" if drops_options else "extra_float_digits"
        (folder / "users.txt").write_text(f'"{user}" ""\n')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={postgres.socket_folder}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {folder}/users.txt\n"
            f"pool_mode = {mode}\nmax_client_conn = 500\ndefault_pool_size = 40\n"
            f"ignore_startup_parameters = {ignored}\n"
        )

    def start(self) -> None:
        """Start it, and return once a connection through it works."""
        program = binary()
        assert program is not None, MISSING
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, str(self._folder / "pgbouncer.ini")],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=self._user, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self._probe, connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self._folder / "log").read_text()) from None
                time.sleep(0.05)

    def stop(self) -> None:
        """End it at once, with all connections."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)
            self._process = None
