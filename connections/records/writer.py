"""Group commit: one thread with one connection writes what waits in one transaction, at most one each 20 ms.

Nobody waits for another's lock or bad row: what is locked is passed over and tried again, and a batch that fails is
replayed entry by entry within a budget. While the database does not answer, endings wait; a handshake is refused after
4 s.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any
from uuid import UUID

from connections import database, metrics
from connections.conf import Tunables
from connections.database.errors import CANCELED, may_be_one_rows, sqlstate_of
from connections.database.trouble import in_words
from connections.policy.admission import Admission, Handshake
from connections.policy.states import CloseReason, Refused
from connections.records import gates, lifecycle
from connections.records.batch import Batch, Demand, VictimFailed, end_items, plan_batch, write_batch
from connections.records.lease import NodeGone
from connections.records.queue import GIVEN_UP, Admit, Item, Release, WriteQueue
from connections.records.unclosable import Unclosable

logger = logging.getLogger(__name__)

LOCK_SECONDS = 0.25  # PostgreSQL's lock_timeout: rows are skipped, so only a lock on a table is waited for
REPLAY_BEATS = 0.25  # the budget of a replay; what is left goes on in the next batch
TABLE_LOCKED = 2  # batches in which nothing could be written for a lock: then everything waits
SUSPECTED = 3  # errors that may be one row's, on new connections: then each entry goes alone
MIN_PAUSE, AWAY_PAUSE = 0.02, 0.05  # seconds until what found a lock, or no database, is tried again
NEWCOMER_PAUSE = 0.08  # the longest pause of a handshake, which has 4 s in all: its gate may be free for moments only


class Writer:
    """The writer of one node. Its methods may be called from any thread; none of them blocks."""

    def __init__(self, tunables: Tunables, on_committed: Callable[[Batch], None]) -> None:
        self.tunables = tunables
        self.node_id: UUID | None = None
        self.node_name = ""
        self.last_round = time.monotonic()  # when the last round ended, with or without a commit
        self.failing_since: float | None = None  # time.monotonic(): every transaction since then has failed
        self.failure = ""  # why the last one did
        self._on_committed = on_committed
        self._queue = WriteQueue(tunables.beat_seconds / 2)
        self._logged_away_at = -math.inf
        self._began = -math.inf  # time.monotonic() of the last transaction
        self._unserved = 0  # batches in a row that found a lock
        self._suspected = 0  # errors since the last commit that may be one row's
        self._unclosable = Unclosable()
        self._thread = threading.Thread(target=self._run, name="connections-writer", daemon=True)
        self.waits = lambda: database.waits(self._thread)  # at this moment

    @property
    def thread_alive(self) -> bool:
        """Whether the thread runs, or is yet to be started."""
        return self._thread.ident is None or self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Write the remaining items, then end the thread. False if it is still running after `timeout` seconds."""
        self._queue.stop()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def admit(self, handshake: Handshake) -> "Future[Admission | Refused]":
        """Return a future of the decision. Cancelling it withdraws the handshake: then the writer frees what it stored.

        Only who got an Admission calls `release`.
        """
        future: Future[Admission | Refused] = Future()
        until = time.monotonic() + handshake.seconds_left(self.tunables.admission_seconds)
        self._queue.put_admission(Admit(handshake, future, until))
        return future

    def accepted(self, manager_id: UUID, user_id: Any = None) -> None:
        self._queue.put_accepted(manager_id, user_id)

    def release(self, manager_id: UUID, reason: CloseReason, evidence: str, user_id: Any = None) -> None:
        """End a manager's record. With its `user_id`, before any newcomer of this user is counted."""
        self._queue.put_release(manager_id, Release(reason, evidence), user_id)

    def is_writing(self, manager_id: UUID) -> bool:
        """Whether something of this manager is still to be written; reconcile skips such a manager."""
        return self._queue.is_writing(manager_id)

    def backlog(self) -> int:
        """Of how many managers an admission, accept or release is still to be written."""
        return self._queue.backlog()

    def _run(self) -> None:
        ended = False
        while not ended:
            try:
                with database.own_connection(self.tunables.beat_seconds, lock_seconds=LOCK_SECONDS):
                    ended = self._repeat()
            except Exception as error:  # the connection could not be made or given back: begin anew
                self._note_failure(error)
                logger.exception("worker_began_anew", extra={"worker": "writer"})
                time.sleep(self.tunables.beat_seconds / 4)

    def _repeat(self) -> bool:
        """Write batch after batch. Returns True once the queue was stopped and is empty."""
        while True:
            items = self._queue.take(self._began)
            if items:
                self._began = time.monotonic()
                self._write(items)
            elif self._queue.stopping:
                return True
            for admit in self._queue.give_up(time.monotonic()):
                admit.resolve(Refused.TRY_AGAIN)
            database.idle()
            self.last_round = time.monotonic()

    # One batch

    def _write(self, items: list[Item]) -> None:
        try:
            self._commit(items)
        except Exception as error:  # noqa: BLE001 - this thread must outlive any one item
            self._failed(items, error)

    def _failed(self, items: list[Item], error: Exception) -> None:
        if isinstance(error, NodeGone):
            self._node_gone(items)
        elif isinstance(error, database.AWAY):
            self._away(error, items)
        elif isinstance(error, VictimFailed):
            self._pass_over(error)
            self._queue.keep(items)
        elif isinstance(error, database.Busy):
            self._found_lock(error, items)
        elif len(items) > 1:
            logger.warning("batch_replayed", extra={"error": repr(error), "items": len(items)})
            self._replay(items)
        else:
            logger.error("item_failed", exc_info=error, extra={"manager": str(items[0].id)})
            self._give_up(items[0])

    def _commit(self, items: list[Item]) -> None:
        """One transaction: releases, admissions, accepts, then releases of records admitted in this batch."""
        newcomers = {item.id: item.admit for item in items if item.admit is not None}
        if newcomers:
            gates.ensure({(admit.handshake.user_id, admit.handshake.pool) for admit in newcomers.values()})
        committing = False
        try:
            with database.atomic():
                plan = plan_batch(self._demand(items), self.node_id, self.tunables)
                end_items([i for i in items if i.id not in newcomers and i.id in plan.mine], self.node_name, plan.now)
                batch = write_batch(plan)
                opened = {item.id for item in items if item.accepted} & plan.mine
                if opened:
                    lifecycle.accepted(opened, plan.now)
                end_items([i for i in items if i.id in batch.admissions], self.node_name, plan.now)
                locked = {i.id for i in items if i.id not in newcomers} - plan.mine
                batch.locked |= lifecycle.held_among(locked)
                committing = True
        except database.AWAY:
            for admit in newcomers.values():
                admit.may_be_stored |= committing
            raise
        self._settle(items, batch)

    def _demand(self, items: list[Item]) -> Demand:
        newcomers = {item.id for item in items if item.admit is not None}
        return Demand(
            [item.admit.handshake for item in items if item.admit is not None],
            leaving={item.id for item in items if item.release is not None} - newcomers,
            accepted={item.id for item in items if item.accepted} - newcomers,
            patient={item.id for item in items if item.entry.tries < 2},
            unclosable=self._unclosable.ids(time.monotonic()),
        )

    def _settle(self, items: list[Item], batch: Batch) -> None:
        """Resolve the futures of a committed transaction. What waits for a lock is tried again."""
        if len(batch.locked) < len(items):
            self._unserved, self._suspected, self.failing_since, self.failure = 0, 0, None, ""
        for item in items:
            if item.id in batch.locked:
                self._try_again(item)
                continue
            self._queue.done(item)
            if item.admit is not None:
                decided: Admission | Refused = batch.admissions.get(item.id) or batch.refused[item.id]
                if not item.admit.resolve(decided) and item.id in batch.admissions:
                    self.release(item.id, GIVEN_UP.reason, GIVEN_UP.evidence, item.entry.user_id)
        try:
            self._on_committed(batch)
        except Exception:  # the batch is committed: a failed bell must not repeat it
            logger.exception("bell_failed", extra={"worker": "writer"})

    # What could not be written

    def _try_again(self, item: Item, *, alone: bool = False) -> None:
        """Another transaction holds a lock, usually for milliseconds. Within a beat after its end it is tried again."""
        if self._queue.stopping and item.admit is None:
            self._queue.done(item)  # the node's retirement frees it
            return
        longest = self.tunables.beat_seconds / 2 if item.admit is None else NEWCOMER_PAUSE
        pause = min(MIN_PAUSE * 2.0 ** min(item.entry.tries, 10), longest)
        self._queue.keep([item], seconds=pause, alone=alone)

    def _found_lock(self, error: Exception, items: list[Item]) -> None:
        """A statement waited for a lock in vain: for one of a table, or for one that a single item needs."""
        metrics.database_trouble.labels("writer", "locked").inc()
        logger.warning("batch_found_lock", extra={"error": str(error), "items": len(items)})
        self._note_failure(error)
        if self._unserved == 0 and len(items) == 1 and items[0].entry.alone:  # others were served since its last try
            if sqlstate_of(error) == CANCELED:  # each try makes everybody wait for a whole time-out of a statement
                self._give_up(items[0], refuse=False)
            else:
                self._try_again(items[0])
            return
        self._unserved += 1
        if self._unserved % (TABLE_LOCKED + 1) < TABLE_LOCKED:
            self._replay(items)
        else:
            self._queue.keep(items, seconds=LOCK_SECONDS / 2)

    def _replay(self, items: list[Item]) -> None:
        """Write the items one by one, each in a transaction of its own, until the budget is used up.

        An item that found a lock where others were written goes alone from now on; if none was, a table may be locked.
        """
        until = time.monotonic() + self.tunables.beat_seconds * REPLAY_BEATS
        left = sorted(items, key=lambda item: (item.entry.tries, item.entry.number))
        blocked: list[Item] = []
        served = False
        while left and (time.monotonic() < until or len(left) == len(items)):
            item = left.pop(0)
            try:
                self._commit([item])
                if not served:  # the oldest go first now: what spoils batches must not stay behind all that arrives
                    served = True
                    left.sort(key=lambda item: item.entry.number)
            except database.Busy as error:
                self._note_failure(error)
                blocked.append(item)
            except database.AWAY as error:
                self._away(error, [item, *left])
                left = []
            except Exception as error:  # noqa: BLE001 - this thread must outlive any one item
                self._failed([item], error)
        for item in blocked:
            self._try_again(item, alone=served)
        self._queue.keep(left)

    def _away(self, error: Exception, items: list[Item]) -> None:
        metrics.database_trouble.labels("writer", "away").inc()
        self._note_failure(error)
        # If the database refuses at once, the writer retries often but logs once a beat.
        if time.monotonic() - self._logged_away_at >= self.tunables.beat_seconds:
            self._logged_away_at = time.monotonic()
            logger.warning("database_unreachable", extra={"worker": "writer", "error": str(error), "items": len(items)})
        database.throw_away()
        suspected = may_be_one_rows(error)
        self._suspected += suspected
        if suspected and len(items) == 1 and items[0].entry.alone:
            self._give_up(items[0])
        else:
            self._queue.keep(items, alone=suspected and self._suspected >= SUSPECTED)
        time.sleep(AWAY_PAUSE)

    def _note_failure(self, error: Exception) -> None:
        self.failing_since = self.failing_since or time.monotonic()
        self.failure = in_words(error)

    def _node_gone(self, items: list[Item]) -> None:
        """The node was fenced: put handshakes back until it has a new identity, or their deadline. Write the other
        items now; the sweep frees what the old identity still holds.
        """
        rest = [item for item in items if item.admit is None]
        self._queue.keep([item for item in items if item.admit is not None], seconds=AWAY_PAUSE)
        if rest:
            self._write(rest)

    def _pass_over(self, failed: VictimFailed) -> None:
        logger.error("victim_passed_over", exc_info=failed.__cause__, extra={"manager": str(failed.record_id)})
        self._unclosable.add(failed.record_id, time.monotonic())

    def _give_up(self, item: Item, *, refuse: bool = True) -> None:
        """This item can't be written: refuse its handshake, or try its ending again later, alone."""
        if item.admit is not None and (refuse or self._queue.stopping):
            item.admit.resolve(Refused.TRY_AGAIN)
            self._queue.drop(item, admit=True, accepted=True, release=not item.admit.may_be_stored)
            if item.admit.may_be_stored:
                self.release(item.id, GIVEN_UP.reason, GIVEN_UP.evidence, item.entry.user_id)
        elif self._queue.stopping:
            self._queue.done(item)  # the node's retirement frees it
        else:
            self._queue.keep([item], seconds=2.0 ** min(item.entry.tries + 1, 6), alone=True)  # a minute at most
