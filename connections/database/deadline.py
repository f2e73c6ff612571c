"""The client-side deadline of a database connection. A frozen server still acknowledges packets, so neither TCP
nor a timeout set in the server ends the wait for it.

One watcher thread for all connections of the process shuts down each socket past its deadline; the thread waiting
on it then gets the driver's ordinary lost-connection error.
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
    """The deadline of one connection. Call `move` before a statement, `clear` after it, and `close` at the end.

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
        """Afterwards the watcher leaves the socket alone, so it may be closed."""
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
            except OSError as error:  # the socket was closed meanwhile, which is as good
                logger.info("database_connection_already_closed", extra={"error": str(error)})
