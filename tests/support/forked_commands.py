"""Run several management commands, each in a process that is forked from one process that has imported Django.

`tests.support.processes.manage_each` starts this module. It reads a JSON list of argument lists from stdin, and prints
a JSON list of {code, out, err} in the same order.
"""

import json
import os
import sys
import tempfile
from typing import Any

import django
from django.core.management import execute_from_command_line


def run_forked(arguments: list[str]) -> dict[str, Any]:
    """Run one command in a child process, and return its exit code and its output."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            execute_from_command_line(["manage.py", *arguments])
            sys.exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return {"code": code, "out": _text(out), "err": _text(err)}


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read())


if __name__ == "__main__":
    django.setup()
    json.dump([run_forked(arguments) for arguments in json.load(sys.stdin)], sys.stdout)
