"""Threads of the engine that do what they are given, all at the same moment, and an outsider who holds locks."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Self

import psycopg

from connections.database.worker import WorkerThread

Job = Callable[[], Any]
ANSWER_SECONDS = 20.0  # no statement of ours may take so long


class Players:
    """Each is a `WorkerThread`, with the connection and the timeouts that those of a node have."""

    def __init__(self, number: int, beat_seconds: float) -> None:
        self._jobs: queue.SimpleQueue[tuple[Job, threading.Barrier, Future[Any]]] = queue.SimpleQueue()
        self._threads = [
            WorkerThread(f"player-{n}", self._play, lambda: ANSWER_SECONDS, beat_seconds=beat_seconds)
            for n in range(number)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        stopped = [thread.stop(ANSWER_SECONDS) for thread in self._threads]
        assert all(stopped), "a player did not come back"

    def at_once(self, jobs: Sequence[Job]) -> list[Any]:
        """What each returned, or the exception that it raised. At most as many jobs as there are players."""
        start = threading.Barrier(len(jobs))
        futures: list[Future[Any]] = []
        for job in jobs:
            futures.append(Future())
            self._jobs.put((job, start, futures[-1]))
        for thread in self._threads:
            thread.ring()
        return [future.exception(ANSWER_SECONDS) or future.result() for future in futures]

    def _play(self) -> None:
        try:
            job, start, future = self._jobs.get_nowait()
        except queue.Empty:
            return
        try:
            start.wait(ANSWER_SECONDS)
            future.set_result(job())
        except Exception as error:  # noqa: BLE001 - it is the job's outcome, which the machine judges
            future.set_exception(error)


def hold(url: str, statement: str, parameters: Sequence[Any], seconds: float) -> None:
    """Somebody else's transaction, which locks rows for so long."""
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode(), parameters)
        time.sleep(seconds)
        connection.rollback()


class Samples:
    """Counts live records by user and pool, as fast as one connection can, all the time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._highest: dict[tuple[int, str], int] = {}
        self._taken = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="samples")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def take(self) -> dict[tuple[int, str], int]:
        """The highest counts since the last call, a fresh sample included."""
        for _ in range(2):  # the first that ends may have begun before
            self._taken.clear()
            assert self._taken.wait(ANSWER_SECONDS), "no sample was taken"
        with self._lock:
            highest, self._highest = self._highest, {}
        return highest

    def _sample(self) -> None:
        query = "SELECT user_id, pool, count(*) FROM connections_managerrecord WHERE state = 'live' GROUP BY 1, 2"
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._stop.is_set():
                found = connection.execute(query.encode()).fetchall()
                with self._lock:
                    for user, pool, number in found:
                        self._highest[user, pool] = max(number, self._highest.get((user, pool), 0))
                self._taken.set()
                time.sleep(0.001)  # the cores are needed for the players
