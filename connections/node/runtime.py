"""This process as a node: its identity, its threads, and what it does for its managers."""

import asyncio
import logging
import os
import signal
import socket
import time
from typing import Any
from uuid import UUID

from django.db import DatabaseError

from connections import bus as bells
from connections import database, metrics
from connections.bus import SESSIONS, WORK, bus
from connections.conf import Tunables
from connections.database.worker import Rounds
from connections.models import ManagerRecord
from connections.node.beat import Beat
from connections.node.keepalive import Heartbeat
from connections.node.limiter import Door
from connections.node.reconcile import reasons_told
from connections.node.sweeper import Sweeper
from connections.policy.actor import Actor
from connections.policy.admission import Admission
from connections.policy.states import CloseReason, Refused
from connections.records import lease, lifecycle
from connections.records.batch import Batch
from connections.records.lease import NodeGone
from connections.records.writer import Writer
from connections.websocket.clock import NodeClock
from connections.websocket.manager import Manager
from connections.websocket.registry import registry

logger = logging.getLogger(__name__)

LOGGED_OUT_SECONDS = 0.3  # from the word of a log-out until the session is gone


class NodeRuntime:
    """One per process and event loop. Methods are for the event loop unless they say otherwise."""

    def __init__(self, values: Tunables, name: str) -> None:
        self.tunables = values
        self.name = name
        self.id: UUID | None = None
        self.leaving = False
        self.drain_wanted = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.clock = NodeClock()
        self.registry = registry
        self.door = Door(values, registry)
        self.heartbeat = Heartbeat(registry, self.clock, values)
        self.writer = Writer(values, self._committed)
        self.renewed_at = time.monotonic()  # when the lease was last renewed
        self.sweeper = Sweeper(values, name)
        self._looped_at = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []
        beat = values.beat_seconds
        self._lease = Rounds("lease", self._renew, lambda: beat, beat_seconds=beat)
        self._pass = Beat(self)
        self._beat = Rounds("beat", self._pass, lambda: beat, beat_seconds=beat)
        self._recovery = Rounds("recovery", self.sweeper.round, self.sweeper.next_round, beat_seconds=beat)

    async def start(self) -> None:
        """Start the threads. The lease follows as soon as the database answers; until then nobody is admitted."""
        self.writer.node_name = self.name
        self.writer.start()
        for rounds in (self._lease, self._beat, self._recovery):
            rounds.start()
        bus.subscribe(WORK, lambda _: self.wake())
        bus.subscribe(SESSIONS, self._sessions_changed)
        bells.use(self)
        self._tasks = [
            self.loop.create_task(self.heartbeat.run(), name="connections-heartbeat"),
            self.loop.create_task(self._watch(), name="connections-watch"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._task_ended)

    # For managers

    async def admit(self, manager: Manager) -> Admission | Refused:
        began = time.monotonic()
        decision = await self._decide(manager)
        seconds = time.monotonic() - began
        metrics.admission_seconds.observe(seconds)
        whose = self._whose(manager) | {"seconds": round(seconds, 4)}
        if isinstance(decision, Refused):
            metrics.admissions.labels(decision.value).inc()
            logger.info("manager_refused", extra=whose | {"cause": decision.value})
        else:
            metrics.admissions.labels("admitted").inc()
            logger.info("manager_admitted", extra=whose | {"live": decision.live})
        return decision

    async def _decide(self, manager: Manager) -> Admission | Refused:
        refused = Refused.NODE_DRAINING if self.leaving else self.door.refused(manager.handshake)
        if refused is not None:
            return refused
        self.registry.add(manager)
        decision: Admission | Refused = Refused.TRY_AGAIN
        future = self.writer.admit(manager.handshake)
        try:
            async with asyncio.timeout(self.tunables.admission_seconds):
                decision = await asyncio.wrap_future(future)
        except TimeoutError:
            # Whether it was written is unknown: free whatever it left.
            self.writer.release(manager.id, CloseReason.CLIENT_GONE, "its admission was given up after 4 s")
        finally:
            self.door.settle(manager.handshake, decision)
        return decision

    def retry_after(self, manager: Manager, refused: Refused) -> float:
        return self.door.retry_after(manager.handshake, refused)

    def accepted(self, manager: Manager) -> None:
        self.writer.accepted(manager.id)

    def released(self, manager: Manager, reason: CloseReason, evidence: str) -> None:
        if self.registry.get(manager.id) is None:
            return  # it never asked for a slot
        self.writer.release(manager.id, reason, evidence)
        if manager.admission is not None:
            why = {"reason": reason, "evidence": evidence, "seconds": round(self.clock.now() - manager.opened, 3)}
            logger.info("manager_closed", extra=self._whose(manager) | why)

    def abandoned(self, manager: Manager) -> None:
        metrics.abandoned.inc()
        logger.error("handler_abandoned", extra=self._whose(manager))

    def _whose(self, manager: Manager) -> dict[str, Any]:
        return {"user": str(manager.user_id), "pool": manager.pool, "manager": str(manager.id), "node": self.name}

    def probe_answered(self) -> None:
        self._beat.ring()

    # Bells; from any thread

    def wake(self) -> None:
        self._beat.ring()
        self._recovery.ring()

    def ring_recovery(self) -> None:
        self._recovery.ring()

    def order(self, manager: Manager, reason: CloseReason, evidence: str) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(manager.order, reason, evidence)

    def ring(self, node_ids: "set[UUID] | None" = None) -> None:
        """Ring these nodes, or all: there is something in their rows."""
        if node_ids is None or self.id in node_ids:
            self.wake()
        others: list[UUID | None] = [None] if node_ids is None else [n for n in node_ids if n != self.id]
        for node_id in others:
            if not self.loop.is_closed():
                self.loop.call_soon_threadsafe(bus.ring, node_id, WORK)

    def logged_out(self, user_id: Any) -> None:
        """A user is about to lose a session: all nodes look at theirs, this one too."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(bus.ring, None, SESSIONS, {"user": str(user_id)})

    def _sessions_changed(self, data: dict[str, Any]) -> None:
        """Django tells of a log-out before the session has gone, so this looks a little later."""
        self.loop.call_later(LOGGED_OUT_SECONDS, self._look_at_sessions, str(data.get("user")))

    def _look_at_sessions(self, user_id: str) -> None:
        self._pass.look_at_sessions(user_id)
        self._beat.ring()

    def _committed(self, batch: Batch) -> None:
        if batch.closing:
            self.ring(set(batch.closing.values()))
        if batch.runs_opened:
            self._recovery.ring()

    # The lease

    @property
    def works(self) -> bool:
        """Whether event loop, writer and beat each finished a round within the last lease: only then is it renewed."""
        oldest = min(self._looped_at, self.writer.last_round, self._beat.last)
        return time.monotonic() - oldest < self.tunables.lease_seconds

    @property
    def unready(self) -> str:
        """Why it should be sent nobody; empty if it holds its lease and admits."""
        if self.leaving or self.drain_wanted.is_set():
            return "the node is draining"
        if self.id is None:
            return "the node has no lease yet"
        if not self.works:
            return "its event loop, its writer or its beat has not finished a round for a lease"
        silent = time.monotonic() - self.renewed_at
        if silent >= self.tunables.lease_seconds:
            return f"its lease was last renewed {silent:.0f} s ago: the database is away, or slow"
        return ""

    def _renew(self) -> None:
        if self.leaving and self.id is None:
            return
        if self.id is None:
            self._register()
        elif self.works:
            try:
                drain_wanted = lease.renew(self.id, self.tunables, len(self.registry))
                self.renewed_at = time.monotonic()
                if drain_wanted:
                    self.loop.call_soon_threadsafe(self.drain_wanted.set)
            except NodeGone:
                self._fenced()
                self._register()
        else:
            logger.error("lease_not_renewed", extra={"node": self.name})

    def _register(self) -> None:
        if self.leaving:
            return
        row = lease.register(self.tunables, name=self.name, host=socket.gethostname(), pid=os.getpid(), serves=True)
        self.id = self.writer.node_id = row.pk
        self.renewed_at = time.monotonic()
        self.loop.call_soon_threadsafe(self._restart_bus, row.pk)
        logger.info("node_started", extra={"node": self.name, "id": str(row.pk)})

    def _fenced(self) -> None:
        """Declared lost while it slept: its clients come back with jitter, under a new identity of this process.

        Whose record was to be closed for a reason of its own meanwhile, by a reset for example, is told that one.
        """
        managers = {manager.id: manager for manager in self.registry.all()}
        reasons = reasons_told(managers)
        logger.warning("node_woke_up", extra={"node": self.name, "id": str(self.id), "managers": len(managers)})
        self.id = self.writer.node_id = None
        for pk, manager in managers.items():
            why = "its node was fenced while it was away, and woke up"
            self.order(manager, reasons.get(pk, CloseReason.NODE_LOST), why)

    def _restart_bus(self, node_id: UUID) -> None:
        task = self.loop.create_task(bus.restart(node_id))
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    async def _watch(self) -> None:
        """The event loop's own round; and probes that the timer ended are written at once."""
        while True:
            self._looped_at = time.monotonic()
            if self.heartbeat.answers:
                self.heartbeat.answers = 0
                self._beat.ring()
            await asyncio.sleep(self.tunables.tick_seconds)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            # Without its timer a node judges nobody: better that it drains and is started anew.
            logger.critical("task_died", exc_info=task.exception(), extra={"task": task.get_name()})
            signal.raise_signal(signal.SIGTERM)

    # The end

    async def drain(self, seconds: float = 8.0) -> None:
        """No new admissions, everybody told to come back elsewhere, records released, the lease given up."""
        if self.leaving:
            return
        self.leaving = True
        deadline = time.monotonic() + seconds
        for manager in self.registry.all():
            manager.order(CloseReason.NODE_DRAINING, f"node {self.name} is draining")
        # Polled: managers have better things to do than to tell, and this happens once.
        while any(m.ended is None for m in self.registry.all()) and time.monotonic() < deadline - 3:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        for _ in range(20):  # a second for the close handshakes; handlers that take longer end with the process
            if not len(self.registry):
                break
            await asyncio.sleep(0.05)
        await asyncio.to_thread(self._retire, max(1.0, deadline - time.monotonic()))
        await bus.stop()
        for task in self._tasks:
            task.cancel()

    def _retire(self, seconds: float) -> None:
        for rounds in (self._lease, self._beat, self._recovery):
            rounds.stop(seconds / 4)
        self.writer.stop(seconds / 4)
        node_id, self.id = self.id, None
        if node_id is None:
            return
        try:
            with database.own_connection(self.tunables.beat_seconds):
                left = list(ManagerRecord.objects.held().on(node_id).values_list("pk", flat=True))
                lifecycle.end_each(
                    left,
                    CloseReason.NODE_DRAINING,
                    f"node {self.name} drained",
                    actor=Actor.system(self.name),
                    now=database.now(),
                )
                lease.retire(node_id)  # whatever it could not free is the sweep's now
                logger.info("node_retired", extra={"node": self.name, "id": str(node_id), "left": len(left)})
        except DatabaseError as error:
            logger.error("retire_failed", extra={"node": self.name, "error": str(error)})  # the fence covers it
