"""Run jobs at the same moment in threads of the engine, hold locks as another program would, and sample the counts."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Self

import psycopg

from connections.database.worker import WorkerThread

Job = Callable[[], Any]
ANSWER_SECONDS = 20.0  # no job of the engine may take so long


class EngineThreads:
    """Several `WorkerThread`s, each with the database connection and the timeouts of a node's own threads."""

    def __init__(self, number: int, beat_seconds: float) -> None:
        self._jobs: queue.SimpleQueue[tuple[Job, threading.Barrier, Future[Any]]] = queue.SimpleQueue()
        self._threads = [
            WorkerThread(f"engine-{n}", self._run_job, lambda: ANSWER_SECONDS, beat_seconds=beat_seconds)
            for n in range(number)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        stopped = [thread.stop(ANSWER_SECONDS) for thread in self._threads]
        assert all(stopped), "a thread did not end"

    def at_once(self, jobs: Sequence[Job]) -> list[Any]:
        """Run the jobs at once, and return each one's result or exception. There must be a thread for each job."""
        start = threading.Barrier(len(jobs))
        futures: list[Future[Any]] = []
        for job in jobs:
            futures.append(Future())
            self._jobs.put((job, start, futures[-1]))
        for thread in self._threads:
            thread.ring()
        return [future.exception(ANSWER_SECONDS) or future.result() for future in futures]

    def _run_job(self) -> None:
        try:
            job, start, future = self._jobs.get_nowait()
        except queue.Empty:
            return
        try:
            start.wait(ANSWER_SECONDS)
            future.set_result(job())
        except Exception as error:  # noqa: BLE001 - the exception is the job's outcome, which the test judges
            future.set_exception(error)


def hold_locks(url: str, statement: str, parameters: Sequence[Any], seconds: float) -> None:
    """Hold the locks of a statement for some seconds, in a transaction on a connection of its own."""
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode(), parameters)
        time.sleep(seconds)
        connection.rollback()


class CountSampler:
    """Counts live records by user and pool again and again in a thread."""

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
        for _ in range(2):  # the first sample that ends may have begun before this call
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
                time.sleep(0.001)  # leaves the cores to the jobs
