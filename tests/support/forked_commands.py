"""Several commands, each in a process of its own, forked from one that has imported Django: `manage_each` runs this.

Reads a JSON list of argument lists from stdin; prints one of {code, out, err}, in their order.
"""

import json
import os
import sys
import tempfile
from typing import Any

import django
from django.core.management import execute_from_command_line


def outcome(arguments: list[str]) -> dict[str, Any]:
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
    json.dump([outcome(arguments) for arguments in json.load(sys.stdin)], sys.stdout)
