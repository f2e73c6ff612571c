"""Group commit: one thread with one connection writes all waiting items in one transaction, at most one each 20 ms.

Items of one manager keep their order. A batch that fails is replayed item by item, so that one bad row fails one
handshake. While the database does not answer, releases wait; a handshake is refused after 4 s, and a release is queued
in case its record was committed.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from uuid import UUID

from connections import database, metrics
from connections.conf import Tunables
from connections.policy.actor import Actor
from connections.policy.admission import Admission, Handshake
from connections.policy.states import ActorKind, CloseReason, Refused
from connections.records import lifecycle
from connections.records.batch import Batch, Plan, ensure_gates, plan_batch, write_batch
from connections.records.lease import NodeGone
from connections.records.lifecycle import Ending
from connections.records.queue import Accepted, Admit, Item, Release, WriteQueue

logger = logging.getLogger(__name__)

LOCK_SECONDS = 0.25  # PostgreSQL's lock_timeout; the whole queue waits for one locked row


class Writer:
    """The writer of one node. Its methods may be called from any thread; none of them blocks."""

    def __init__(self, tunables: Tunables, on_committed: Callable[[Batch], None]) -> None:
        self.tunables = tunables
        self.node_id: UUID | None = None
        self.node_name = ""
        self.last_round = time.monotonic()
        self._on_committed = on_committed
        self._queue = WriteQueue(tunables.beat_seconds / 2)
        self._logged_away_at = -math.inf
        self._began = -math.inf  # time.monotonic() of the last transaction
        self._thread = threading.Thread(target=self._run, name="connections-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Write the remaining items, then end the thread. False if it is still running after `timeout` seconds."""
        self._queue.stop()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def admit(self, handshake: Handshake) -> "Future[Admission | Refused]":
        """Return a future of the decision. Cancelling it withdraws the handshake; call `release` even then."""
        future: Future[Admission | Refused] = Future()
        self._queue.put(Admit(handshake, future, time.monotonic() + self.tunables.admission_seconds))
        return future

    def accepted(self, manager_id: UUID) -> None:
        self._queue.put(Accepted(manager_id))

    def release(self, manager_id: UUID, reason: CloseReason, evidence: str) -> None:
        self._queue.put(Release(manager_id, reason, evidence))

    def is_writing(self, manager_id: UUID) -> bool:
        """Whether an item of this manager is still to be written; reconcile skips such a manager."""
        return self._queue.is_writing(manager_id)

    def backlog(self) -> int:
        """How many admissions, accepts and releases are still to be written."""
        return self._queue.backlog()

    def _run(self) -> None:
        with database.own_connection(self.tunables.beat_seconds, lock_seconds=LOCK_SECONDS):
            while True:
                items = self._queue.take(self._began)
                if items:
                    self._began = time.monotonic()
                    self._write(items)
                elif self._queue.stopping:
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
        """One transaction: releases, admissions, accepts, then releases of records admitted in this batch."""
        admits = [i.handshake for i in items if isinstance(i, Admit) and not i.withdrawn]
        newcomers = {handshake.id for handshake in admits}
        leaving = [i for i in items if isinstance(i, Release) and i.id not in newcomers]
        if admits:
            ensure_gates({(handshake.user_id, handshake.pool) for handshake in admits})
        with database.atomic():
            plan = self._plan(admits, {i.id for i in leaving})
            waiting = {handshake.id for handshake in plan.batch.locked}
            opened = {i.id for i in items if isinstance(i, Accepted) and i.id not in waiting}
            lifecycle.lock({i.id for i in leaving} | (opened - newcomers) | plan.victims.keys())
            now = database.now()
            self._end(leaving, now)
            batch = write_batch(plan)
            if opened:
                lifecycle.accepted(opened, now)
            self._end([i for i in items if isinstance(i, Release) and i.id in newcomers - waiting], now)
        self._settle(items, batch)

    def _plan(self, admits: list[Handshake], leaving: set[UUID]) -> Plan:
        if admits and self.node_id is not None:
            return plan_batch(admits, self.node_id, self.tunables, leaving)
        # Without a node row, treat every gate as locked: handshakes wait until their 4 s are over.
        return Plan(Batch(locked=admits))

    def _end(self, items: list[Release], now: datetime) -> None:
        groups: dict[tuple[CloseReason, str], list[UUID]] = {}
        for item in items:
            groups.setdefault((item.reason, item.evidence), []).append(item.id)
        for (reason, evidence), ids in groups.items():
            lifecycle.end(ids, Ending(reason, evidence, self._actor(reason)), now)

    def _actor(self, reason: CloseReason) -> Actor:
        if reason is CloseReason.CLIENT_CLOSED:
            return Actor(ActorKind.USER, "the client")
        return Actor.system(self.node_name)

    def _settle(self, items: list[Item], batch: Batch) -> None:
        """Resolve the futures of a committed transaction. Items that wait for a locked gate are retried."""
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
            self._queue.done(item)
        if again:
            self._queue.put_back(again)
            time.sleep(0.02)  # another transaction holds the gate, usually for milliseconds
        try:
            self._on_committed(batch)
        except Exception:  # the batch is committed: a failed bell must not repeat it
            logger.exception("bell_failed", extra={"worker": "writer"})

    def _away(self, error: Exception, items: list[Item]) -> None:
        metrics.database_trouble.labels("writer", "away").inc()
        # If the database refuses at once, the writer retries often but logs once a beat.
        if time.monotonic() - self._logged_away_at >= self.tunables.beat_seconds:
            self._logged_away_at = time.monotonic()
            logger.warning("database_unreachable", extra={"worker": "writer", "error": str(error), "items": len(items)})
        database.throw_away()
        self._keep(items)

    def _keep(self, items: list[Item]) -> None:
        """Put items back: releases wait for the database, handshakes until their deadline."""
        now = time.monotonic()
        keep: list[Item] = []
        for item in items:
            if isinstance(item, Admit) and (item.withdrawn or item.deadline <= now):
                _resolve(item.future, Refused.TRY_AGAIN)
                # Its transaction may have been committed, so release the record in any case.
                keep.append(Release(item.id, CloseReason.CLIENT_GONE, "its admission was given up"))
            else:
                keep.append(item)
        self._queue.put_back(keep)
        time.sleep(0.05)

    def _node_gone(self, items: list[Item]) -> None:
        """The node was fenced: put handshakes back until it has a new identity, or their deadline. Write the other
        items now; the sweep frees what the old identity still holds.
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
                logger.warning("item_found_lock", extra={"manager": str(item.id), "error": str(error)})
                if isinstance(item, Release):
                    self._failed(item)
                else:
                    self._keep([item])
            except Exception:  # this thread must outlive any one item
                logger.exception("item_failed", extra={"manager": str(item.id)})
                self._failed(item)

    def _failed(self, item: Item) -> None:
        if isinstance(item, Admit):
            _resolve(item.future, Refused.TRY_AGAIN)
        elif isinstance(item, Release):
            item.failures += 1
            item.retry_at = time.monotonic() + 2.0 ** min(item.failures, 6)  # a minute at most
            if not self._queue.stopping:  # when stopping, the node's retirement frees it
                self._queue.put_back([item])
                return
        self._queue.done(item)


def _resolve(future: "Future[Admission | Refused]", value: Admission | Refused) -> None:
    if future.set_running_or_notify_cancel():
        future.set_result(value)
