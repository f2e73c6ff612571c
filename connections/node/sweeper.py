"""The rounds of a node's recovery thread: sweep, advance the open runs, prune history."""

import random
import time
from datetime import timedelta
from itertools import islice

from connections.conf import Tunables
from connections.records.pruning import prune_in_batches
from connections.recovery.budget import Budget
from connections.recovery.open_runs import OpenRuns
from connections.recovery.sweep import Sweep

PRUNE_SECONDS = 3600.0
PRUNE_BATCHES = 5  # in one round: about 0.1 s
PRUNE_PAUSE_SECONDS = 1.0  # until the next batches: a first prune of a million rows ends within the hour


class Sweeper:
    """The body of the recovery thread. A round lasts a beat at most, and ends when the next sweep is due; what is left
    goes on in the next one.
    """

    def __init__(self, tunables: Tunables, label: str) -> None:
        self._tunables = tunables
        self._sweep = Sweep(tunables, label)
        self._runs = OpenRuns(tunables)
        self._sweep_at = time.monotonic() + random.uniform(0.2, 0.8) * tunables.sweep_seconds
        self._prune_at = time.monotonic() + random.uniform(0.01, 1.0) * PRUNE_SECONDS
        self._run_due: float | None = None
        self._began = time.monotonic()  # the last round

    def round(self) -> None:
        """Do what is due: fence and free, advance the open runs, prune a few batches of history."""
        now = self._began = time.monotonic()
        sweeps = bool(self._tunables.sweep_seconds)
        begins = sweeps and now >= self._sweep_at
        if begins:
            # Sweeps are at most 1.2 periods apart: the bounds of the design count on it.
            self._sweep_at = now + random.uniform(0.8, 1.15) * self._tunables.sweep_seconds
        left = self._sweep_at - now if sweeps else self._tunables.beat_seconds
        budget = Budget(min(self._tunables.beat_seconds, left))
        if begins or self._sweep.unfinished:
            self._sweep.go_on(budget.share(2))  # the rest is for the runs
        if begins:
            self._runs.look_at_foreign()
        due = self._runs.advance(budget)
        self._run_due = None if due is None else time.monotonic() + due
        if now >= self._prune_at and not budget.spent:
            self._prune(now)

    def _prune(self, now: float) -> None:
        self._prune_at = now + PRUNE_SECONDS
        batches = prune_in_batches(timedelta(days=self._tunables.history_days), audit=False)
        if len(list(islice(batches, PRUNE_BATCHES))) == PRUNE_BATCHES:
            self._prune_at = now + PRUNE_PAUSE_SECONDS

    def next_round(self) -> float:
        """Seconds from the start of the last round until something is due; at most a beat, since another process may
        open a run.
        """
        if self._sweep.unfinished:
            return 0.0
        moments = [self._began + self._tunables.beat_seconds, self._prune_at]
        if self._tunables.sweep_seconds:
            moments.append(self._sweep_at)
        if self._run_due is not None:
            moments.append(self._run_due)
        return max(0.0, min(moments) - self._began)
