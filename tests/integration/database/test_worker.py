"""The rounds of a worker thread: how often they run, and which of them count as the thread being alive."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from django.db import IntegrityError, OperationalError

from connections import database
from connections.database.worker import WorkerThread
from tests.support.writers import failing_at_first

BEAT = 0.4
ROUNDS = 4


def times_of(outcome: Callable[[], None], *, every: float = 0.0, rings: bool = True) -> tuple[list[float], float]:
    """Run rounds that end with `outcome`; return when they began, and when the last one counted. They are due `every`
    so many seconds, and with `rings` another thread asks for a round all the time.
    """
    began: list[float] = []
    enough = threading.Event()

    def body() -> None:
        began.append(time.monotonic())
        if rings:
            rounds.ring()
        if len(began) >= ROUNDS:
            enough.set()
        outcome()

    rounds = WorkerThread("test", body, lambda: every, beat_seconds=BEAT)
    rounds.start()
    assert enough.wait(10)
    assert rounds.stop(5)
    return began[:ROUNDS], rounds.last


def away() -> None:
    raise OperationalError("connection refused")


def locked() -> None:
    raise database.Busy("somebody else's lock")


def unwritable() -> None:
    raise IntegrityError("one bad row")


def wrong() -> None:
    raise ValueError("a mistake of ours")


@pytest.mark.parametrize("outcome", [away, locked, unwritable, wrong])
def test_a_round_that_failed_is_not_tried_again_at_once(outcome: Callable[[], None]) -> None:
    began, _ = times_of(outcome)
    gaps = [later - earlier for earlier, later in pairwise(began)]
    assert all(gap >= BEAT / 4 for gap in gaps), gaps


def test_a_round_that_is_due_follows_at_once() -> None:
    began, _ = times_of(lambda: None)
    assert began[-1] - began[0] < BEAT


@pytest.mark.parametrize("outcome", [away, locked, unwritable])
def test_a_round_that_fails_for_a_database_error_counts(outcome: Callable[[], None]) -> None:
    began, last = times_of(outcome)
    assert last > began[-1]


def test_a_round_that_fails_for_a_bug_does_not_count() -> None:
    began, last = times_of(wrong)
    assert last < began[0]


def test_a_round_that_waited_for_a_lock_goes_on_waiting_at_once() -> None:
    def waited() -> None:
        time.sleep(BEAT)  # as long as a statement waits for a lock
        locked()

    began, _ = times_of(waited, every=BEAT)
    gaps = [later - earlier - BEAT for earlier, later in pairwise(began)]
    assert all(gap < BEAT / 4 for gap in gaps), gaps


def test_the_period_counts_from_the_start_of_a_round() -> None:
    began, _ = times_of(lambda: time.sleep(BEAT / 2), every=BEAT, rings=False)
    gaps = [later - earlier for earlier, later in pairwise(began)]
    assert all(BEAT <= gap < 1.25 * BEAT for gap in gaps), gaps


@pytest.mark.parametrize("error", [SystemExit(), KeyboardInterrupt(), asyncio.CancelledError()], ids=repr)
def test_no_exception_ends_the_thread(error: BaseException) -> None:
    def ends() -> None:
        raise error

    began, last = times_of(ends)
    assert len(began) == ROUNDS
    assert last < began[0]


def test_a_thread_that_gets_no_connection_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [2]
    monkeypatch.setattr(database, "own_connection", failing_at_first(times))
    began, last = times_of(lambda: None)
    assert times == [0]
    assert last > began[-1]


def test_the_error_of_the_last_round_is_kept_until_one_succeeds() -> None:
    outcomes: Iterator[Callable[[], None]] = iter([away, wrong, lambda: None])
    seen: list[BaseException | None] = []
    ended = threading.Event()

    def body() -> None:
        seen.append(rounds.error)
        if len(seen) == 4:
            ended.set()
        else:
            next(outcomes)()

    rounds = WorkerThread("test", body, lambda: 0.0, beat_seconds=BEAT)
    rounds.start()
    assert ended.wait(10)
    assert rounds.stop(5)
    assert [type(error) for error in seen] == [type(None), OperationalError, ValueError, type(None)]
