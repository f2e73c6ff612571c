"""A management command that ends when its parent process does: `python -m console.demo.parent_watch serve …`.

Its standard input is a pipe from the parent. The system closes the pipe when the parent ends, also by SIGKILL.
"""

import os
import signal
import sys
import threading
import time

DRAIN_SECONDS = 10.0  # within which `serve` ends after SIGTERM


def end_with_parent() -> None:
    """At the end of standard input, send SIGTERM to this process, and exit after DRAIN_SECONDS."""
    threading.Thread(target=_wait, name="parent-watch", daemon=True).start()


def _wait() -> None:
    # Not sys.stdin: a daemon thread that holds its lock would abort the interpreter at its end.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(DRAIN_SECONDS)
    os._exit(1)


def main() -> None:
    from django.core.management import execute_from_command_line

    end_with_parent()
    execute_from_command_line(["manage.py", *sys.argv[1:]])


if __name__ == "__main__":
    main()
