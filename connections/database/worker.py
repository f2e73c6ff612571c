"""A thread that repeats one kind of round, on a database connection of its own."""

import logging
import threading
import time
from collections.abc import Callable

from django.db import DatabaseError

from connections import database, metrics

logger = logging.getLogger(__name__)

MIN_GAP = 0.01  # seconds between two rounds started by bells: many bells make one round


class WorkerThread:
    """Call `body` every `every()` seconds, and at each `ring`.

    `last` is when the last round ended, on time.monotonic(). It is a test of the thread and not of the database, so a
    round counts that found the database away, a row locked, or a row that can't be written. A round that failed for
    another cause does not count. `lock_seconds` is how long a statement waits for a lock; None: a beat.
    """

    def __init__(
        self,
        name: str,
        body: Callable[[], None],
        every: Callable[[], float],
        *,
        beat_seconds: float,
        lock_seconds: float | None = None,
    ) -> None:
        self.last = time.monotonic()
        self._name = name
        self._body = body
        self._every = every
        self._beat_seconds = beat_seconds
        self._lock_seconds = lock_seconds
        self._bell = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"connections-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ring(self) -> None:
        self._bell.set()

    def stop(self, timeout: float) -> bool:
        """False if the round under way did not end within `timeout` seconds."""
        self._stopping = True
        self._bell.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with database.own_connection(self._beat_seconds, lock_seconds=self._lock_seconds):
            while not self._stopping:
                self._bell.clear()
                # Otherwise a database that refuses at once would be asked, and logged, a hundred times a second.
                gap = self._beat_seconds / 4
                try:
                    with database.round_of(self._name):
                        self._body()
                        gap = MIN_GAP
                    self.last = time.monotonic()
                except database.Busy as error:
                    self.last = time.monotonic()
                    metrics.database_trouble.labels(self._name, "locked").inc()
                    logger.warning("round_found_lock", extra={"worker": self._name, "error": str(error)})
                except DatabaseError:
                    self.last = time.monotonic()
                    logger.exception("round_failed", extra={"worker": self._name})
                except Exception:  # the thread must run for as long as the process; `last` shows that it failed
                    logger.exception("round_failed", extra={"worker": self._name})
                self._bell.wait(max(gap, self._every()))
                if self._bell.is_set() and not self._stopping:
                    time.sleep(gap)
