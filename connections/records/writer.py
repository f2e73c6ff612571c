"""Group commit: one thread, one connection, and whatever waits is one transaction, which begins 20 ms after the last at
the earliest.

Items of one manager keep their order. A batch that fails is replayed item by item, so that one bad row fails one
handshake. While the database is away, endings wait; a handshake gives up by itself after its 4 s, and what it may
have written is released.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from connections import database, metrics
from connections.conf import Tunables
from connections.policy.actor import Actor
from connections.policy.admission import Admission, Handshake
from connections.policy.states import ActorKind, CloseReason, Refused
from connections.records import batch as gates
from connections.records import lifecycle
from connections.records.batch import Batch, Plan
from connections.records.lease import NodeGone

logger = logging.getLogger(__name__)

LOCK_SECONDS = 0.25  # on PostgreSQL, for a row that somebody holds: all that waits in the queue waits as long
GATHER_SECONDS = 0.02  # between the beginnings of two transactions: under load more items share one, and its cost
BATCH = 200  # items a transaction: 8 ms for 500 rows was measured, and a batch must stay well below a beat


@dataclass(slots=True, eq=False)
class Admit:
    handshake: Handshake
    future: "Future[Admission | Refused]"
    deadline: float  # time.monotonic() at which its client is sent away

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
    retry_at: float = 0.0


Item = Admit | Accepted | Release


class Writer:
    """The writer of one node. Its methods may be called from any thread; none of them blocks."""

    def __init__(self, tunables: Tunables, on_committed: Callable[[Batch], None]) -> None:
        self.tunables = tunables
        self.node_id: UUID | None = None
        self.node_name = ""
        self.last_round = time.monotonic()
        self._on_committed = on_committed
        self._items: deque[Item] = deque()
        self._pending: dict[UUID, int] = {}
        self._told_away = -math.inf
        self._began = -math.inf  # time.monotonic() of the last transaction
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="connections-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Write what is left, then end. False if it did not within `timeout` seconds."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def admit(self, handshake: Handshake) -> "Future[Admission | Refused]":
        """Resolves to what was decided. Cancelling it withdraws the handshake; release it then all the same."""
        future: Future[Admission | Refused] = Future()
        self._put(Admit(handshake, future, time.monotonic() + self.tunables.admission_seconds))
        return future

    def accepted(self, manager_id: UUID) -> None:
        self._put(Accepted(manager_id))

    def release(self, manager_id: UUID, reason: CloseReason, evidence: str) -> None:
        self._put(Release(manager_id, reason, evidence))

    def is_writing(self, manager_id: UUID) -> bool:
        """Whether something of this manager is still to be written; reconcile passes it over then."""
        with self._wake:
            return manager_id in self._pending

    def backlog(self) -> int:
        with self._wake:
            return sum(self._pending.values())

    def _put(self, item: Item) -> None:
        with self._wake:
            self._items.append(item)
            self._pending[item.id] = self._pending.get(item.id, 0) + 1
            self._wake.notify()

    def _done(self, item: Item) -> None:
        with self._wake:
            left = self._pending.get(item.id, 1) - 1
            if left:
                self._pending[item.id] = left
            else:
                self._pending.pop(item.id, None)

    def _take(self) -> list[Item]:
        """The next batch; empty when there is nothing to do for a beat. An item waits behind its manager's first."""
        with self._wake:
            if not self._items and not self._stopping:
                self._wake.wait(self.tunables.beat_seconds / 2)
            gather = self._began + GATHER_SECONDS - time.monotonic()
        if gather > 0:
            time.sleep(gather)
        with self._wake:
            now = time.monotonic()
            taken: list[Item] = []
            kept: list[Item] = []
            behind: set[UUID] = set()
            while self._items and len(taken) < BATCH:
                item = self._items.popleft()
                waits = isinstance(item, Release) and item.retry_at > now and not self._stopping
                if item.id in behind or waits:
                    behind.add(item.id)
                    kept.append(item)
                    continue
                taken.append(item)
            self._items.extendleft(reversed(kept))
            if not taken and not self._stopping:
                self._wake.wait(self.tunables.beat_seconds / 2)  # all that is left waits for its next try
            return taken

    def _put_back(self, items: list[Item]) -> None:
        with self._wake:
            self._items.extendleft(reversed(items))

    def _run(self) -> None:
        with database.own_connection(self.tunables.beat_seconds, lock_seconds=LOCK_SECONDS):
            while True:
                items = self._take()
                if items:
                    self._began = time.monotonic()
                    self._write(items)
                elif self._stopping:
                    break
                database.idle()
                self.last_round = time.monotonic()

    def _write(self, items: list[Item]) -> None:
        try:
            self._commit(items)
        except NodeGone:
            self._node_gone(items)
        except database.AWAY as error:
            self._away(error, items)
        except Exception as error:  # noqa: BLE001 - this thread must outlive any one item; each is tried by itself
            logger.warning("batch_replayed", extra={"error": repr(error), "items": len(items)})
            self._replay(items)

    def _commit(self, items: list[Item]) -> None:
        """One transaction for all: who leaves makes room, and what a newcomer of this batch did comes last."""
        admits = [i.handshake for i in items if isinstance(i, Admit) and not i.withdrawn]
        newcomers = {shake.id for shake in admits}
        leaving = [i for i in items if isinstance(i, Release) and i.id not in newcomers]
        if admits:
            gates.ensure_gates({(shake.user_id, shake.pool) for shake in admits})
        with transaction.atomic():
            plan = self._decide(admits, {i.id for i in leaving})
            waiting = {shake.id for shake in plan.batch.locked}
            opened = {i.id for i in items if isinstance(i, Accepted) and i.id not in waiting}
            lifecycle.lock({i.id for i in leaving} | (opened - newcomers) | plan.victims.keys())
            now = database.now()
            self._end(leaving, now)
            batch = gates.write(plan)
            if opened:
                lifecycle.accepted(opened, now)
            self._end([i for i in items if isinstance(i, Release) and i.id in newcomers - waiting], now)
        self._settle(items, batch)

    def _decide(self, admits: list[Handshake], leaving: set[UUID]) -> Plan:
        if admits and self.node_id is not None:
            return gates.decide(admits, self.node_id, self.tunables, leaving)
        # Its row is being written: as with a locked gate, until the 4 s are over.
        return Plan(Batch(locked=admits))

    def _end(self, items: list[Release], now: datetime) -> None:
        groups: dict[tuple[CloseReason, str], list[UUID]] = {}
        for item in items:
            groups.setdefault((item.reason, item.evidence), []).append(item.id)
        for (reason, evidence), ids in groups.items():
            lifecycle.end(ids, reason, evidence, actor=self._actor(reason), now=now)

    def _actor(self, reason: CloseReason) -> Actor:
        if reason is CloseReason.CLIENT_CLOSED:
            return Actor(ActorKind.USER, "the client")
        return Actor.system(self.node_name)

    def _settle(self, items: list[Item], batch: Batch) -> None:
        """Tell the outcome of a transaction that was committed. What waits for a locked gate is tried again."""
        locked = {h.id for h in batch.locked}
        now = time.monotonic()
        again: list[Item] = []
        for item in items:
            expired = isinstance(item, Admit) and item.deadline <= now
            if item.id in locked and not expired:
                again.append(item)
                continue
            if isinstance(item, Admit) and not item.withdrawn:
                decided: Admission | Refused | None = batch.admissions.get(item.id)
                _resolve(item.future, decided or batch.refused.get(item.id, Refused.TRY_AGAIN))
            self._done(item)
        if again:
            self._put_back(again)
            time.sleep(0.02)  # a locked gate is held by somebody's transaction, which takes milliseconds
        try:
            self._on_committed(batch)
        except Exception:  # it is committed: a bell that fails is no reason to do it again
            logger.exception("bell_failed", extra={"worker": "writer"})

    def _away(self, error: Exception, items: list[Item]) -> None:
        metrics.database_trouble.labels("writer", "away").inc()
        if time.monotonic() - self._told_away >= self.tunables.beat_seconds:  # one that refuses at once is asked often
            self._told_away = time.monotonic()
            logger.warning("database_away", extra={"worker": "writer", "error": str(error), "items": len(items)})
        database.throw_away()
        self._keep(items)

    def _keep(self, items: list[Item]) -> None:
        """Not now: endings wait for the database, handshakes as long as their client does."""
        now = time.monotonic()
        keep: list[Item] = []
        for item in items:
            if isinstance(item, Admit) and (item.withdrawn or item.deadline <= now):
                _resolve(item.future, Refused.TRY_AGAIN)
                # Whether its transaction was committed is unknown: free whatever it left.
                keep.append(Release(item.id, CloseReason.CLIENT_GONE, "its admission was given up"))
            else:
                keep.append(item)
        self._put_back(keep)
        time.sleep(0.05)

    def _node_gone(self, items: list[Item]) -> None:
        """Fenced: nothing more is written under this identity, and the sweep frees what it holds. Handshakes wait for
        the next identity as long as their client does.
        """
        rest: list[Item] = [i for i in items if not isinstance(i, Admit)]
        self._keep([i for i in items if isinstance(i, Admit)])
        if rest:
            self._write(rest)

    def _replay(self, items: list[Item]) -> None:
        for item in items:
            try:
                self._commit([item])
            except NodeGone:
                self._node_gone([item])
            except database.AWAY as error:
                self._away(error, [item])
            except database.Busy as error:
                metrics.database_trouble.labels("writer", "locked").inc()
                logger.warning("item_waits", extra={"manager": str(item.id), "error": str(error)})
                if isinstance(item, Release):
                    self._failed(item)
                else:
                    self._keep([item])
            except Exception:
                logger.exception("item_failed", extra={"manager": str(item.id)})
                self._failed(item)

    def _failed(self, item: Item) -> None:
        if isinstance(item, Admit):
            _resolve(item.future, Refused.TRY_AGAIN)
        elif isinstance(item, Release):
            item.failures += 1
            item.retry_at = time.monotonic() + 2.0 ** min(item.failures, 6)  # a minute at most
            if not self._stopping:  # when stopping, the node's retirement frees it
                self._put_back([item])
                return
        self._done(item)


def _resolve(future: "Future[Admission | Refused]", value: Admission | Refused) -> None:
    if future.set_running_or_notify_cancel():
        future.set_result(value)
