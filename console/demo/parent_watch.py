"""A management command that ends when whoever started it does: `python -m console.demo.parent_watch serve …`.

Its standard input is a pipe from the starter. The system closes it with the starter's last breath, SIGKILL too.
"""

import os
import signal
import sys
import threading
import time

DRAIN_SECONDS = 10.0  # in which `serve` promises to be gone after SIGTERM


def end_with_parent() -> None:
    """From now on the end of standard input is SIGTERM to this process, and after ten seconds its end."""
    threading.Thread(target=_wait, name="parent-watch", daemon=True).start()


def _wait() -> None:
    # Not sys.stdin: its lock, held by a daemon thread, would abort the interpreter as it ends.
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
