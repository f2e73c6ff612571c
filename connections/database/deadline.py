"""The client-side deadline of a database connection. A frozen server still acknowledges packets, so no timeout of the
network's, nor of the server's own, ends the wait for it.

One watcher thread for all connections of the process shuts the socket of whichever is over its time; whoever waits
on it then gets the library's ordinary error of a lost connection.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.2


class Deadline:
    """Of one connection: `move` before each statement, `clear` when none is under way, `close` at the end.

    `descriptor` gives the connection's socket, None where it has none. It is called from the watcher's thread, only
    between `move` and `clear`.
    """

    def __init__(self, descriptor: Callable[[], int | None], seconds: float) -> None:
        self._descriptor = descriptor
        self._seconds = seconds
        self._lock = threading.Lock()
        self._until: float | None = None
        _watch(self)

    def move(self) -> None:
        with self._lock:
            self._until = time.monotonic() + self._seconds

    def clear(self) -> None:
        """Returns once the socket will not be touched, so that it may be closed."""
        with self._lock:
            self._until = None

    def close(self) -> None:
        self.clear()
        with _lock:
            _watched.discard(self)

    def look(self, now: float) -> None:
        with self._lock:
            if self._until is None or now < self._until:
                return
            self._until = None
            descriptor = self._descriptor()
            if descriptor is None:
                return
            logger.warning("database_connection_timed_out", extra={"seconds": self._seconds})
            with socket.socket(fileno=os.dup(descriptor)) as end:
                end.shutdown(socket.SHUT_RDWR)


_lock = threading.Lock()
_watched: set[Deadline] = set()
_thread: threading.Thread | None = None


def _watch(deadline: Deadline) -> None:
    global _thread  # noqa: PLW0603 - one for the process
    with _lock:
        _watched.add(deadline)
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_run, name="connections-deadline", daemon=True)
            _thread.start()


def _run() -> None:
    while True:
        time.sleep(LOOK_SECONDS)
        with _lock:
            watched = list(_watched)
        for deadline in watched:
            try:
                deadline.look(time.monotonic())
            except OSError as error:  # it was lost in this moment, which is what was wanted
                logger.info("database_connection_already_closed", extra={"error": str(error)})
