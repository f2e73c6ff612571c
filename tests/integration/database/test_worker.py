"""The rounds of a worker thread: how often they run, and which of them count as the thread being alive."""

import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from django.db import IntegrityError, OperationalError

from connections import database
from connections.database.worker import WorkerThread

BEAT = 0.4
ROUNDS = 4


def times_of(outcome: Callable[[], None]) -> tuple[list[float], float]:
    """Run rounds that are always due and end with `outcome`; return when they began, and when the last one counted."""
    began: list[float] = []
    enough = threading.Event()

    def body() -> None:
        began.append(time.monotonic())
        rounds.ring()  # another thread asks for a round all the time
        if len(began) >= ROUNDS:
            enough.set()
        outcome()

    rounds = WorkerThread("test", body, lambda: 0.0, beat_seconds=BEAT)
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
