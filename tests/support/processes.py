"""Processes of the project: their environment variables, and management commands that run to their end."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from tests.support.databases import Database

ROOT = Path(__file__).resolve().parents[2]

# Sessions are signed with the key, so the seed process, the servers and the commands need the same one.
SECRET_KEY = "a key that only tests use, long enough to please every check there is"


class Environment(TypedDict):
    cwd: Path
    env: dict[str, str]


def environment(variables: Mapping[str, str]) -> Environment:
    """The arguments with which `subprocess` starts a process of the project, without the caller's own settings."""
    ours = (
        "CONNECTIONS_",
        "CHAT_MODEL",
        "DATABASE_URL",
        "CHANNEL_LAYER_URL",
        "DEBUG",
        "ALLOWED_HOSTS",
        "CSRF_TRUSTED_ORIGINS",
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    clean |= {
        "DJANGO_SETTINGS_MODULE": "console.settings",
        "SECRET_KEY": SECRET_KEY,
        "PYTHONUNBUFFERED": "1",
        # A process that hangs writes its stack to the log when it gets SIGABRT.
        "PYTHONFAULTHANDLER": "1",
    }
    return {"cwd": ROOT, "env": clean | dict(variables)}


def of_database(db: "Database") -> dict[str, str]:
    """The environment variables that name the database, and the settings of the project that it belongs to."""
    return {"DATABASE_URL": db.url, "DJANGO_SETTINGS_MODULE": db.settings}


def overrides(values: Mapping[str, object]) -> dict[str, str]:
    """The environment variables for settings of the engine: `soft_limit=3` becomes `CONNECTIONS_SOFT_LIMIT=3`."""
    return {f"CONNECTIONS_{name.upper()}": str(value) for name, value in values.items()}


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        try:
            return json.loads(self.out)
        except ValueError:
            raise AssertionError(f"not one JSON document (exit {self.code}):\n{self.out}\n{self.err}") from None


def manage(
    *arguments: object,
    db: "Database",
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
    **connections: object,
) -> Result:
    """Run `manage.py arguments…` on a database to its end. `soft_limit=3` sets CONNECTIONS_SOFT_LIMIT."""
    process = subprocess.run(
        [sys.executable, "manage.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        **environment(of_database(db) | overrides(connections) | dict(env or {})),
    )
    return Result(process.returncode, process.stdout, process.stderr)


def manage_each(commands: Sequence[Sequence[str]], *, db: "Database", timeout: float = 60) -> list[Result]:
    """Run several commands and return their results. One process imports Django for all of them, which saves most of
    the time.
    """
    process = subprocess.run(
        [sys.executable, "-m", "tests.support.forked_commands"],
        input=json.dumps([list(arguments) for arguments in commands]),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=True,
        **environment(of_database(db)),
    )
    return [Result(**found) for found in json.loads(process.stdout)]


def manage_json(
    *arguments: object,
    db: "Database",
    code: int = 0,
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
    **connections: object,
) -> Any:
    """Run `manage.py arguments… --json`, check that the exit code is `code`, and return the JSON that it printed."""
    result = manage(*arguments, "--json", db=db, env=env, timeout=timeout, **connections)
    assert result.code == code, f"{arguments} ended with {result.code}, not {code}:\n{result.out}\n{result.err}"
    return result.json
