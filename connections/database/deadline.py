"""The client-side deadline of a database connection. A frozen server still acknowledges packets, so neither TCP
nor a timeout set in the server ends the wait for it.

One watcher thread for all connections of the process shuts down each socket past its deadline; the thread waiting
on it then gets the driver's ordinary lost-connection error.
"""

import logging
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
        with _lock:
            _watched.add(self)

    def move(self) -> None:
        with self._lock:
            self._until = time.monotonic() + self._seconds
        ensure_watcher()

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
            end = socket.socket(fileno=descriptor)
            try:
                end.shutdown(socket.SHUT_RDWR)
            finally:
                end.detach()  # the descriptor is the driver's, which closes it


_lock = threading.Lock()
_watched: set[Deadline] = set()
_thread: threading.Thread | None = None


def ensure_watcher() -> None:
    """Start the watcher if it isn't running: it has never been, or it ended, or this process is a fork."""
    global _thread  # noqa: PLW0603 - one for the process
    if _thread is not None and _thread.is_alive():
        return
    with _lock:
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
            except Exception:  # whatever a driver raises for one connection must not end the watch over the others
                logger.exception("database_deadline_failed")
