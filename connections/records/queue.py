"""The queue of a node's writer: one entry for each manager of which something is still to be written.

So the queue is bounded by what lives, however long the database is away. An entry has at most one admission, one accept
and one release, which are written in this order: what is behind an admission stays behind it.
"""

import heapq
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import Any
from uuid import UUID

from connections.policy.admission import Admission, Handshake
from connections.policy.states import CloseReason, Refused

GATHER_SECONDS = 0.02  # between the beginnings of two transactions: under load more entries share one, and its cost
BATCH = 200  # entries a transaction: 8 ms for 500 rows was measured, and a batch must stay well below a beat
NEWCOMERS = 150  # of them at most: they go first, but endings must go on too


@dataclass(frozen=True, slots=True)
class Release:
    """How a manager ended."""

    reason: CloseReason
    evidence: str


GIVEN_UP = Release(CloseReason.CLIENT_GONE, "its admission was given up")


@dataclass(slots=True, eq=False)
class Admit:
    """An admission that is not decided yet."""

    handshake: Handshake
    future: "Future[Admission | Refused]"
    deadline: float  # time.monotonic() at which its client is refused
    may_be_stored: bool = False  # a transaction wrote it, and nobody learned whether it was committed

    def is_over(self, now: float) -> bool:
        """Whether its client has gone, or has waited for too long."""
        return self.future.cancelled() or self.deadline <= now

    def resolve(self, value: Admission | Refused) -> bool:
        """Tell who waits for it. Returns whether anybody still does."""
        if not self.future.set_running_or_notify_cancel():
            return False
        self.future.set_result(value)
        return True


@dataclass(slots=True, eq=False)
class Entry:
    """What is still to be written of one manager. Only the queue changes it."""

    id: UUID
    user_id: Any = None
    number: int = 0  # in the order of arrival
    admit: Admit | None = None
    accepted: bool = False
    release: Release | None = None
    taken: bool = False  # the batch under way has it
    waits: bool = False  # it is not due yet
    alone: bool = False  # it may have spoiled a batch, so it shares none
    tries: int = 0  # that wrote nothing

    def is_over(self, now: float) -> bool:
        """Whether it has an admission that nobody waits for: its manager has ended, or its client has waited too long.

        Such a newcomer gets no slot, since at the ceiling a living manager would be closed for it.
        """
        return self.admit is not None and (self.release is not None or self.admit.is_over(now))


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """What one batch is to write of an entry. The entry may get more meanwhile."""

    entry: Entry
    admit: Admit | None
    accepted: bool
    release: Release | None

    @property
    def id(self) -> UUID:
        return self.entry.id


class WriteQueue:
    """`put_…`, `is_writing`, `backlog` and `stop`: from any thread; all other methods: from the writer's thread."""

    def __init__(self, idle_seconds: float) -> None:
        """`idle_seconds`: how long `take` waits for an entry that is due before it returns an empty list."""
        self.stopping = False
        self._idle_seconds = idle_seconds
        self._wake = threading.Condition()
        self._entries: dict[UUID, Entry] = {}
        self._newcomers: dict[UUID, Entry] = {}  # the entries with an admission
        self._endings: dict[UUID, Entry] = {}  # all others
        self._alone: dict[UUID, Entry] = {}  # of both
        self._endings_of: dict[Any, dict[UUID, Entry]] = {}  # by user
        self._waiting: list[tuple[float, int, Entry]] = []  # a heap by time.monotonic()
        self._number = count()
        self._last_was_alone = False

    # From any thread

    def put_admission(self, admit: Admit) -> None:
        with self._wake:
            entry = self._entry(admit.handshake.id, admit.handshake.user_id)
            self._endings.pop(entry.id, None)
            entry.admit = admit
            self._newcomers[entry.id] = entry
            self._wake.notify()

    def put_accepted(self, manager_id: UUID, user_id: Any = None) -> None:
        with self._wake:
            self._entry(manager_id, user_id).accepted = True
            self._wake.notify()

    def put_release(self, manager_id: UUID, release: Release, user_id: Any = None) -> None:
        """The first release of a manager stands."""
        with self._wake:
            entry = self._entry(manager_id, user_id)
            entry.release = entry.release or release
            self._wake.notify()

    def stop(self) -> None:
        """From now on, hand out the remaining entries without waiting until they are due."""
        with self._wake:
            self.stopping = True
            self._wake.notify()

    def is_writing(self, manager_id: UUID) -> bool:
        """Whether something of this manager is still to be written."""
        with self._wake:
            return manager_id in self._entries

    def backlog(self) -> int:
        """Of how many managers something is still to be written."""
        with self._wake:
            return len(self._entries)

    def _entry(self, manager_id: UUID, user_id: Any) -> Entry:
        entry = self._entries.get(manager_id)
        if entry is None:
            entry = self._entries[manager_id] = self._endings[manager_id] = Entry(
                manager_id, user_id, next(self._number)
            )
            self._endings_of.setdefault(user_id, {})[manager_id] = entry
        return entry

    # From the writer's thread

    def take(self, last_began: float) -> list[Item]:
        """Return the next batch, GATHER_SECONDS or more after the last one began; empty after `idle_seconds` idle."""
        with self._wake:
            if not self._due(time.monotonic()) and not self.stopping:
                self._wake.wait(self._seconds_idle(time.monotonic()))
        gather = last_began + GATHER_SECONDS - time.monotonic()
        if gather > 0:
            time.sleep(gather)
        with self._wake:
            now = time.monotonic()
            self._due(now)
            chosen = self._choose(now)
            for entry in chosen:
                entry.taken = True
            return [Item(entry, entry.admit, entry.accepted, entry.release) for entry in chosen]

    def _due(self, now: float) -> bool:
        """Whether any entry may be taken. Ends the waiting of those whose time has come."""
        while self._waiting and (self._waiting[0][0] <= now or self.stopping):
            heapq.heappop(self._waiting)[2].waits = False
        return len(self._entries) > len(self._waiting)

    def _seconds_idle(self, now: float) -> float:
        return min(self._idle_seconds, self._waiting[0][0] - now if self._waiting else self._idle_seconds)

    def _choose(self, now: float) -> list[Entry]:
        """Newcomers first, with the endings of their users, which make room for them; then other endings."""

        def is_due(entry: Entry) -> bool:
            return not entry.waits and not entry.is_over(now)

        alone = next(filter(is_due, self._alone.values()), None)
        self._last_was_alone = alone is not None and not self._last_was_alone
        if alone is not None and self._last_was_alone:
            return [alone]
        shared = (entry for entry in self._newcomers.values() if not entry.alone)
        newcomers = list(islice(filter(is_due, shared), NEWCOMERS))
        users = dict.fromkeys(e.user_id for e in newcomers)
        theirs = chain.from_iterable(list(self._endings_of.get(user, {}).values()) for user in users)
        endings = (e for e in chain(theirs, self._endings.values()) if not (e.waits or e.alone or e.admit is not None))
        together = list(islice(iter(dict.fromkeys(chain(newcomers, endings))), BATCH))
        return [alone] if alone is not None and not together else together

    def keep(self, items: Iterable[Item], *, seconds: float = 0.0, alone: bool = False) -> None:
        """Give items back that were not written. They are due again in `seconds`; `alone`: in a batch of their own."""
        with self._wake:
            for item in items:
                entry = item.entry
                entry.taken = False
                entry.tries += 1
                entry.alone = entry.alone or alone
                if entry.alone:
                    self._alone.pop(entry.id, None)
                    self._alone[entry.id] = entry  # behind the others, so that each of them has its turn
                if seconds and not self.stopping:
                    entry.waits = True
                    heapq.heappush(self._waiting, (time.monotonic() + seconds, next(self._number), entry))

    def done(self, item: Item) -> None:
        """Forget what was written of an item."""
        self.drop(item, item.admit is not None, item.accepted, item.release is not None)

    def drop(self, item: Item, admit: bool, accepted: bool, release: bool) -> None:
        """Forget these parts of an item. What is left of its entry goes on."""
        with self._wake:
            entry = item.entry
            entry.taken, entry.alone, entry.tries = False, False, 0
            self._alone.pop(entry.id, None)
            if admit:
                entry.admit = None
                del self._newcomers[entry.id]
                self._endings[entry.id] = entry
            entry.accepted = entry.accepted and not accepted
            entry.release = None if release else entry.release
            if entry.admit is None and not entry.accepted and entry.release is None:
                self._forget(entry)

    def give_up(self, now: float) -> list[Admit]:
        """Forget the admissions whose clients have gone, or have waited for too long; with all that is behind them.

        One that may be stored leaves a release. Returns what was given up. Not while a batch is under way.
        """
        with self._wake:
            over = [entry for entry in self._newcomers.values() if entry.is_over(now)]
            given_up = [entry.admit for entry in over if entry.admit is not None]
            for entry in over:
                may_be_stored, entry.admit = entry.admit is not None and entry.admit.may_be_stored, None
                del self._newcomers[entry.id]
                self._endings[entry.id] = entry
                entry.release = entry.release or GIVEN_UP
                if not may_be_stored:
                    self._forget(entry)
            if any(entry.waits for entry in over):
                self._waiting = [waiting for waiting in self._waiting if waiting[2].id in self._entries]
                heapq.heapify(self._waiting)
            return given_up

    def _forget(self, entry: Entry) -> None:
        for entries in (self._entries, self._newcomers, self._endings, self._alone):
            entries.pop(entry.id, None)
        theirs = self._endings_of[entry.user_id]
        theirs.pop(entry.id, None)
        if not theirs:
            del self._endings_of[entry.user_id]
