"""Build one node from its parts, start its threads, and drain it."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from uuid import UUID

from django.db import DatabaseError

from connections import bus as bells
from connections import database
from connections.bus import Bus
from connections.conf import Tunables
from connections.database.worker import WorkerThread
from connections.models import ManagerRecord
from connections.node.beat import LOCK_BEATS, Beat
from connections.node.doorbell import Doorbell
from connections.node.keepalive import Keepalive
from connections.node.lease_keeper import LeaseKeeper
from connections.node.limiter import ConnectLimiter
from connections.node.logins import Logins
from connections.node.manager_host import ManagerHost
from connections.node.parts import Identity, NodeParts
from connections.node.sweeper import Sweeper
from connections.policy.actor import Actor
from connections.policy.states import CloseReason
from connections.records import lease, lifecycle
from connections.records.batch import Batch
from connections.records.lifecycle import Ending
from connections.records.writer import Writer
from connections.websocket.clock import NodeClock
from connections.websocket.registry import Registry
from connections.websocket.transport import call_on_stop

logger = logging.getLogger(__name__)

CLOSING_SECONDS = 1.0  # for close handshakes after a drain; slower handlers end with the process


class NodeRuntime:
    """A node. A process has one for each event loop; use it on that loop, unless a method says otherwise."""

    def __init__(self, values: Tunables, name: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.bus = Bus()
        self.drain_wanted = asyncio.Event()
        clock, registry = NodeClock(), Registry()
        self.parts = NodeParts(
            Identity(name),
            values,
            self.loop,
            clock,
            registry,
            limiter=ConnectLimiter(values, registry),
            keepalive=Keepalive(registry, clock, values),
            writer=Writer(values, self._committed),
        )
        self.registry, self.writer, self.tunables = registry, self.parts.writer, values
        self.lease = LeaseKeeper(
            self.parts, works=lambda: self.works, on_registered=self._restart_bus, on_drain_wanted=self.drain_wanted.set
        )
        beat, sweeper = values.beat_seconds, Sweeper(values, name)
        self._recovery_thread = WorkerThread("recovery", sweeper.round, sweeper.next_round, beat_seconds=beat)
        self._beat = Beat(self.parts, ring_recovery=self._recovery_thread.ring)
        self._beat_thread = WorkerThread(
            "beat", self._beat, self._beat.next_round, beat_seconds=beat, lock_seconds=beat * LOCK_BEATS
        )
        self._logins = Logins(self.parts)
        self._lease_thread = WorkerThread("lease", self.lease.round, lambda: beat, beat_seconds=beat)
        self.host = ManagerHost(self.parts, on_probe_answered=self._beat_thread.ring)
        self._doorbell = Doorbell(self.parts, self.bus, wake=self._wake, check_sessions=self._logins.check)
        self._looped_at = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def name(self) -> str:
        return self.parts.identity.name

    @property
    def id(self) -> UUID | None:
        return self.parts.identity.id

    @property
    def leaving(self) -> bool:
        return self.parts.identity.leaving

    @property
    def works(self) -> bool:
        """Whether event loop, writer and beat each finished a round within the last lease: only then is it renewed."""
        oldest = min(self._looped_at, self.writer.last_round, self._beat_thread.last)
        return time.monotonic() - oldest < self.tunables.lease_seconds

    @property
    def unready(self) -> str:
        """Why a proxy should send no client here; empty if the node holds its lease and admits."""
        if self.leaving or self.drain_wanted.is_set():
            return "the node is draining"
        if self.id is None:
            return "the node has no lease yet"
        if not self.works:
            return "its event loop, its writer or its beat has not finished a round for a lease"
        silent = time.monotonic() - self.lease.renewed_at
        if silent >= self.tunables.lease_seconds:
            return f"its lease was last renewed {silent:.0f} s ago: the database does not answer, or is slow"
        return ""

    # The start

    async def start(self) -> None:
        """Start the threads. The lease follows as soon as the database answers; until then nobody is admitted."""
        self.writer.node_name = self.name
        self.writer.start()
        for thread in (self._lease_thread, self._beat_thread, self._recovery_thread):
            thread.start()
        self._logins.start()
        bells.ring_through(self._doorbell)
        call_on_stop(self._server_stops)
        self._tasks = [
            self.loop.create_task(self.parts.keepalive.run(), name="connections-keepalive"),
            self.loop.create_task(self._watch(), name="connections-watch"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._task_ended)

    async def _watch(self) -> None:
        """Note that the event loop runs, and wake the beat to write the verdicts of ended probes."""
        while True:
            self._looped_at = time.monotonic()
            if self.parts.keepalive.answers:
                self.parts.keepalive.answers = 0
                self._beat_thread.ring()
            await asyncio.sleep(self.tunables.tick_seconds)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            # Without its tasks a node judges no client: it drains, and its supervisor restarts it.
            logger.critical("task_died", exc_info=task.exception(), extra={"task": task.get_name()})
            signal.raise_signal(signal.SIGTERM)

    def _restart_bus(self, node_id: UUID) -> None:
        task = self.loop.create_task(self.bus.restart(node_id))
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    # Waking the threads; from any thread

    def _wake(self) -> None:
        self._beat_thread.ring()
        self._recovery_thread.ring()

    def _committed(self, batch: Batch) -> None:
        if batch.closing:
            self._doorbell.ring(set(batch.closing.values()))
        if batch.runs_opened:
            self._recovery_thread.ring()

    # The end

    def _server_stops(self) -> None:
        """Note that Daphne stops: it now cancels its applications. Under `serve` the node has drained by then."""
        self.parts.identity.leaving = True

    async def drain(self, seconds: float = 8.0) -> None:
        """Admit nobody, close every client with a retry time, release the records, give up the lease."""
        if self.leaving:
            return
        self.parts.identity.leaving = True
        deadline = time.monotonic() + seconds
        for manager in self.registry.all():
            manager.order_close(CloseReason.NODE_DRAINING, f"node {self.name} is draining")
        # Of the last 3 s, 1 s is for close handshakes, and 2 s are for retiring.
        await _until(lambda: all(m.ended is not None for m in self.registry.all()), deadline - 3)
        await _until(lambda: not len(self.registry), time.monotonic() + CLOSING_SECONDS)
        await asyncio.to_thread(self._retire, max(1.0, deadline - time.monotonic()))
        await self.bus.stop()
        for task in self._tasks:
            task.cancel()

    def _retire(self, seconds: float) -> None:
        """Stop the threads, release what they left, and retire the node row. What fails is left to the fence."""
        self._logins.stop()
        for thread in (self._lease_thread, self._beat_thread, self._recovery_thread):
            thread.stop(seconds / 4)
        self.writer.stop(seconds / 4)
        node_id, self.parts.identity.id = self.id, None
        if node_id is None:
            return
        try:
            with database.own_connection(self.tunables.beat_seconds):
                held = list(ManagerRecord.objects.held().on(node_id).values_list("pk", flat=True))
                evidence, actor = f"node {self.name} drained", Actor.system(self.name)
                lifecycle.end_each(held, Ending(CloseReason.NODE_DRAINING, evidence, actor), database.now())
                lease.retire(node_id)  # the sweep frees what could not be freed here
                logger.info("node_retired", extra={"node": self.name, "id": str(node_id), "left": len(held)})
        except DatabaseError as error:
            logger.error("retire_failed", extra={"node": self.name, "error": str(error)})


async def _until(condition: Callable[[], bool], deadline: float) -> None:
    """Wait for a condition, until `deadline` on time.monotonic(). Polled: a process drains once, and an event would
    cost every manager a callback.
    """
    while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.05)
