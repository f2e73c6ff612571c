"""A thread that repeats one kind of round, on a database connection of its own."""

import logging
import threading
import time
from collections.abc import Callable

from django.db import DatabaseError

from connections import database, metrics

logger = logging.getLogger(__name__)

MIN_GAP = 0.01  # seconds between two rounds started by bells: many bells make one round
COUNTED = (*database.AWAY, DatabaseError)  # errors of the database: the thread did its part


class WorkerThread:
    """Call `body` every `every()` seconds, counted from the start of a round, and at each `ring`.

    `last` is when the last round ended, on time.monotonic(). It is a test of the thread and not of the database, so a
    round counts that found the database away, a row locked, or a row that can't be written. A round that failed for
    another cause does not count. `error` is what the last round failed with, or None. `lock_seconds` is how long a
    statement waits for a lock; None: a beat.
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
        self.error: BaseException | None = None
        self._name = name
        self._body = body
        self._every = every
        self._beat_seconds = beat_seconds
        self._lock_seconds = lock_seconds
        self._bell = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"connections-{name}", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread runs, or is yet to be started."""
        return self._thread.ident is None or self._thread.is_alive()

    @property
    def waits(self) -> bool:
        """Whether it waits for the database at this moment."""
        return database.waits(self._thread)

    def start(self) -> None:
        self._thread.start()

    def ring(self) -> None:
        self._bell.set()

    def stop(self, timeout: float) -> bool:
        """End the thread after the round under way. False if it did not end within `timeout` seconds."""
        self._stopping = True
        self._bell.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            try:
                with database.own_connection(self._beat_seconds, lock_seconds=self._lock_seconds):
                    self._repeat()
            except BaseException as error:  # the connection could not be made or given back: begin anew
                self.error = error
                logger.exception("worker_began_anew", extra={"worker": self._name})
                self._bell.wait(self._beat_seconds / 4)

    def _repeat(self) -> None:
        while not self._stopping:
            self._bell.clear()
            began = time.monotonic()
            self.error = self._round()
            # Otherwise a database that refuses at once would be asked, and logged, a hundred times a second. A round
            # that waited for a lock has had its gap: it waits on at once, so that it is the next to get the lock.
            gap = MIN_GAP if self.error is None else self._beat_seconds / 4
            self._pause(began + gap, began + self._every())

    def _pause(self, earliest: float, due: float) -> None:
        """Wait until `due`; after a bell, only until `earliest`."""
        soonest = max(earliest, time.monotonic() + MIN_GAP)
        self._bell.wait(max(soonest, due) - time.monotonic())
        if self._bell.is_set() and not self._stopping:
            time.sleep(max(0.0, soonest - time.monotonic()))

    def _round(self) -> BaseException | None:
        """Do one round, whatever it raises. Returns what it failed with."""
        failed: BaseException | None = None
        try:
            with database.round_of(self._name):
                try:
                    self._body()
                except database.Busy as error:  # handled within the round, which would close this good connection
                    failed = error
                    metrics.database_trouble.labels(self._name, "locked").inc()
                    logger.warning("round_found_lock", extra={"worker": self._name, "error": str(error)})
                except BaseException as error:
                    failed = error
                    raise
        except BaseException as error:  # only `stop` ends the thread, no SystemExit of a library; `last` shows it
            failed = failed or error
            logger.exception("round_failed", extra={"worker": self._name})
        if failed is None or isinstance(failed, COUNTED):
            self.last = time.monotonic()
        return failed
