"""Watch the parts of a node. If one has ended, or has finished no round for a lease, the node says that it can't work;
a lease later the process ends, where it may. The same thread ends a process whose orderly end takes too long.

The thread waits for nothing that could hang: no lock, no log handler, no event loop.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from connections.conf import Tunables

logger = logging.getLogger(__name__)

END_SECONDS = 6.0  # for the orderly end of a node that can't work: close frames, a last release, the lease given up
WATCHDOG = "watchdog"  # the part that fails once the watchdog itself has ended
LOG_SECONDS = 1.0  # for the last line: a log handler whose reader has stopped must not hold up the exit


@dataclass(frozen=True, slots=True)
class Part:
    """A thread or a task without which the node can't work.

    `last` gives when it last finished a round, on time.monotonic(); None for a part without rounds. `error` says, in
    words, what its last round failed with. `waits` says whether it waits for the database: that time does not count, or
    a database that is slow or away would be taken for a part that hangs. `leases` is for how long it may finish none.
    """

    name: str
    ended: Callable[[], bool]
    last: Callable[[], float] | None = None
    error: Callable[[], str] = str
    waits: Callable[[], bool] = bool
    leases: float = 1.0


class WatchedNode(Protocol):
    """What the watchdog tells its node, from the watchdog's thread. No method blocks."""

    @property
    def name(self) -> str: ...
    @property
    def over(self) -> bool: ...
    @property
    def leaving(self) -> bool: ...
    def cannot_work(self, why: str) -> None: ...
    def works_again(self) -> None: ...
    def give_up(self, why: str) -> None: ...


class WorkingClock:
    """The seconds for which this process ran. Of the time between two looks at most `most` counts: where it is longer,
    the process was stopped, and its parts could do nothing either.
    """

    def __init__(self, most: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._monotonic = monotonic
        self._at = (monotonic(), 0.0)

    def now(self) -> float:
        looked, counted = self._at
        return counted + min(self._monotonic() - looked, self._most)

    def look(self) -> float:
        """Note that the process runs. For the one thread that looks."""
        now = self.now()
        self._at = (self._monotonic(), now)
        return now


class Watchdog:
    """`may_end`: whether it may end the process, which only a server of ours allows."""

    def __init__(
        self, node: WatchedNode, parts: Iterable[Part], tunables: Tunables, *, clock: WorkingClock | None = None
    ) -> None:
        self.failures: dict[str, str] = {}  # what each part that fails has not done, in words
        self.may_end = False
        self._node = node
        self._parts = tuple(parts)
        self._lease_seconds = tunables.lease_seconds
        self._period = tunables.tick_seconds
        self._clock = clock or WorkingClock(tunables.beat_seconds)
        self._seen: dict[str, tuple[float, float]] = {}  # by part: `last`, and the clock when it changed
        self._looked_at = self._clock.now()
        self._failing_since: float | None = None
        self._gave_up = False
        self._exit: tuple[float, int] | None = None  # when the process ends whatever still runs, and its exit code
        self._thread = threading.Thread(target=self._run, name="connections-watchdog", daemon=True)

    @property
    def why(self) -> str:
        """Why this node can't work; empty while it works."""
        return "; ".join(self.failures.values())

    @property
    def ending(self) -> bool:
        """Whether the end of the process is settled."""
        return self._exit is not None

    def start(self) -> None:
        self._thread.start()

    def end_within(self, seconds: float, code: int) -> None:
        """End the process in so many seconds with this code, if it has not ended by itself. Of several calls the
        earliest moment and the last code hold. May be called from a signal's handler.
        """
        at = self._clock.now() + seconds
        self._exit = (at if self._exit is None else min(at, self._exit[0]), code)

    def _run(self) -> None:
        try:
            while self._exit is not None or not self._node.over:
                self.look()
                time.sleep(self._period)
        except BaseException as error:  # noqa: BLE001 - whatever it was, a node without its watchdog can't work
            self.failures = {WATCHDOG: "its watchdog has ended"}
            died = error  # `error` itself is gone after this block
            _beside(lambda: logger.critical("watchdog_died", exc_info=died, extra={"node": self._node.name}))
            self._node.cannot_work(self.why)
            if self.may_end:
                self._node.give_up(self.why)
                time.sleep(END_SECONDS)
                _end_process(1)

    def look(self) -> None:
        """Look at all parts once, and at the moment at which the process must have ended."""
        now = self._clock.look()
        if self._exit is not None and now >= self._exit[0]:
            _end_process(self._exit[1])
        if self._node.leaving or self._gave_up:
            return  # its parts end one after the other
        found = [(part.name, self._failure_of(part, now)) for part in self._parts]
        self._looked_at = now
        self.failures = {name: failure for name, failure in found if failure}
        if self.failures:
            self._found_failing(now)
        elif self._failing_since is not None:
            facts = {"node": self._node.name, "seconds": round(now - self._failing_since, 1)}
            _beside(lambda: logger.warning("node_works_again", extra=facts))
            self._failing_since = None
            self._node.works_again()

    def _failure_of(self, part: Part, now: float) -> str:
        if part.ended():
            return f"its {part.name} has ended"
        if part.last is None:
            return ""
        last = part.last()
        if part.name not in self._seen or last != self._seen[part.name][0]:
            self._seen[part.name] = (last, now)
        elif part.waits():
            self._seen[part.name] = (last, self._seen[part.name][1] + now - self._looked_at)
        silent = now - self._seen[part.name][1]
        if silent < part.leases * self._lease_seconds:
            return ""
        error = part.error()
        return f"its {part.name} has not finished a round for {silent:.0f} s" + (f": {error}" if error else "")

    def _found_failing(self, now: float) -> None:
        """Say so once; give up if a part has ended, which no waiting mends, or after a lease."""
        facts = {"node": self._node.name, "why": self.why}
        if self._failing_since is None:
            self._failing_since = now
            self._node.cannot_work(self.why)
            _beside(lambda: logger.critical("node_cannot_work", extra=facts))
        ended = any(part.ended() for part in self._parts)
        if self.may_end and not self._gave_up and (ended or now - self._failing_since >= self._lease_seconds):
            self._gave_up = True
            self.end_within(END_SECONDS, 1)
            self._node.give_up(self.why)
            _beside(lambda: logger.critical("node_ends_itself", extra=facts))


def _beside(write: Callable[[], None]) -> threading.Thread | None:
    """Write to the log in a thread of its own, which may hang."""
    thread = threading.Thread(target=write, name="connections-log", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread can be had, or the interpreter is ending
        return None
    return thread


def _end_process(code: int) -> None:
    """End the process now. No thread is waited for but one that writes the last line and flushes the streams."""
    last_words = _beside(lambda: _say_last_words(code))
    if last_words is not None:
        last_words.join(LOG_SECONDS)
    os._exit(code)


def _say_last_words(code: int) -> None:
    held_up = sorted(thread.name for thread in threading.enumerate() if not thread.daemon)
    logger.warning("process_ended_by_force", extra={"code": code, "threads": held_up})
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
