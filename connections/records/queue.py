"""The queue of a node's writer. Items of one manager keep their order; each item is pending until it is written."""

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from uuid import UUID

from connections.policy.admission import Admission, Handshake
from connections.policy.states import CloseReason, Refused

GATHER_SECONDS = 0.02  # between the beginnings of two transactions: under load more items share one, and its cost
BATCH = 200  # items a transaction: 8 ms for 500 rows was measured, and a batch must stay well below a beat


@dataclass(slots=True, eq=False)
class Admit:
    handshake: Handshake
    future: "Future[Admission | Refused]"
    deadline: float  # time.monotonic() at which its client is refused

    @property
    def id(self) -> UUID:
        return self.handshake.id

    @property
    def withdrawn(self) -> bool:
        return self.future.cancelled()


@dataclass(slots=True, eq=False)
class Accepted:
    id: UUID


@dataclass(slots=True, eq=False)
class Release:
    id: UUID
    reason: CloseReason
    evidence: str
    failures: int = 0
    retry_at: float = 0.0  # time.monotonic()


Item = Admit | Accepted | Release


class WriteQueue:
    """`put`, `is_writing`, `backlog` and `stop`: from any thread; all other methods: from the writer's thread only."""

    def __init__(self, idle_seconds: float) -> None:
        """`idle_seconds`: how long `take` waits for an item before it returns an empty list."""
        self.stopping = False
        self._idle_seconds = idle_seconds
        self._items: deque[Item] = deque()
        self._pending: dict[UUID, int] = {}
        self._wake = threading.Condition()

    def put(self, item: Item) -> None:
        with self._wake:
            self._items.append(item)
            self._pending[item.id] = self._pending.get(item.id, 0) + 1
            self._wake.notify()

    def stop(self) -> None:
        """From now on, hand out the remaining items without waiting for their retry times."""
        with self._wake:
            self.stopping = True
            self._wake.notify()

    def is_writing(self, manager_id: UUID) -> bool:
        """Whether something of this manager is still to be written."""
        with self._wake:
            return manager_id in self._pending

    def backlog(self) -> int:
        """How many items are still to be written."""
        with self._wake:
            return sum(self._pending.values())

    def take(self, last_began: float) -> list[Item]:
        """Return the next batch, GATHER_SECONDS or more after the last one began; empty after `idle_seconds` idle."""
        with self._wake:
            if not self._items and not self.stopping:
                self._wake.wait(self._idle_seconds)
        gather = last_began + GATHER_SECONDS - time.monotonic()
        if gather > 0:
            time.sleep(gather)
        with self._wake:
            taken = self._next_batch(time.monotonic())
            if not taken and not self.stopping:
                self._wake.wait(self._idle_seconds)  # every remaining item waits for its retry time
            return taken

    def _next_batch(self, now: float) -> list[Item]:
        """Take items in order. An item that waits for its retry time holds back later items of its manager."""
        taken: list[Item] = []
        kept: list[Item] = []
        held_back: set[UUID] = set()
        while self._items and len(taken) < BATCH:
            item = self._items.popleft()
            waits = isinstance(item, Release) and item.retry_at > now and not self.stopping
            if item.id in held_back or waits:
                held_back.add(item.id)
                kept.append(item)
            else:
                taken.append(item)
        self._items.extendleft(reversed(kept))
        return taken

    def put_back(self, items: list[Item]) -> None:
        """Return taken items to the front of the queue, in their order."""
        with self._wake:
            self._items.extendleft(reversed(items))

    def done(self, item: Item) -> None:
        """Forget an item that was written or given up."""
        with self._wake:
            left = self._pending.get(item.id, 1) - 1
            if left:
                self._pending[item.id] = left
            else:
                self._pending.pop(item.id, None)
