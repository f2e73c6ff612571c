"""Build one node from its parts, start its threads, and drain it."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from uuid import UUID

from connections import bus as bells
from connections.bus import Bus
from connections.conf import Tunables
from connections.database.trouble import in_words
from connections.database.worker import WorkerThread
from connections.node.beat import LOCK_BEATS, Beat
from connections.node.doorbell import Doorbell
from connections.node.keepalive import Keepalive
from connections.node.lease_keeper import LeaseKeeper
from connections.node.limiter import ConnectLimiter
from connections.node.logins import Logins
from connections.node.manager_host import ManagerHost
from connections.node.parts import Identity, NodeParts
from connections.node.retirement import retire
from connections.node.sweeper import Sweeper
from connections.node.watchdog import WATCHDOG, Part, Watchdog
from connections.policy.states import CloseReason
from connections.records.batch import Batch
from connections.records.writer import Writer
from connections.websocket.clock import NodeClock
from connections.websocket.registry import Registry
from connections.websocket.transport import call_on_stop

logger = logging.getLogger(__name__)

CLOSING_SECONDS = 1.0  # for close handshakes after a drain; slower handlers end with the process
RETIRE_SECONDS = 2.0  # for the threads' ends and the last writes
BUS_SECONDS = 0.5  # for the bus: a layer may swallow its cancellation
EVENT_LOOP, WRITER, BEAT = "event loop", "writer", "beat"
LEASE_PARTS = {EVENT_LOOP, WRITER, BEAT, WATCHDOG}  # without which the lease is not renewed
# The other nodes sweep and advance runs as well, so no client suffers, and a round may wait for many locks in turn.
RECOVERY_LEASES = 3.0


class NodeRuntime:
    """A node. A process has one for each event loop; use it on that loop, unless a method says otherwise."""

    def __init__(self, values: Tunables, name: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.bus = Bus()
        self.drain_wanted = asyncio.Event()
        self.gave_up = asyncio.Event()  # it can't work, and is to be ended: `why` says why
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
        self.lease_thread = WorkerThread("lease", self.lease.round, lambda: beat, beat_seconds=beat)
        self._threads = (self.lease_thread, self._beat_thread, self._recovery_thread)
        self.host = ManagerHost(self.parts, on_probe_answered=self._beat_thread.ring)
        self._doorbell = Doorbell(self.parts, self.bus, wake=self._wake, check_sessions=self._logins.check)
        self._looped_at = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []
        self._timer: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self.watchdog = Watchdog(self, self._watched_parts(), values)

    def _watched_parts(self) -> list[Part]:
        writer = self.writer
        return [
            Part(EVENT_LOOP, lambda: _failed(self._watching), lambda: self._looped_at),
            Part("keepalive", self._timer_ended),
            Part("bus", lambda: self.bus.died),
            Part(
                WRITER,
                lambda: not writer.thread_alive,
                lambda: writer.last_round,
                lambda: writer.failure,
                writer.waits,
            ),
            _thread_part(BEAT, self._beat_thread),
            _thread_part("lease thread", self.lease_thread),
            _thread_part("recovery thread", self._recovery_thread, leases=RECOVERY_LEASES),
        ]

    def _timer_ended(self) -> bool:
        """Whether the keepalive has ended. At the end of an event loop all tasks are cancelled together."""
        ending = self._watching is not None and self._watching.cancelled()
        return self._timer is not None and self._timer.done() and not ending

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
    def over(self) -> bool:
        """Whether the node's event loop has ended, and the node with it."""
        return self.loop.is_closed()

    @property
    def works(self) -> bool:
        """Whether event loop, writer and beat each finished a round within the last lease: only then is it renewed.
        Once the loop has ended, nobody looks at them any more.
        """
        return not self.over and not LEASE_PARTS & self.watchdog.failures.keys()

    @property
    def why(self) -> str:
        """Why this node can't work; empty while it works."""
        return self.watchdog.why

    @property
    def unready(self) -> str:
        """Why a proxy should send no client here; empty if the node holds its lease, commits, and admits."""
        if self.leaving or self.drain_wanted.is_set():
            return "the node is draining"
        if self.why:
            return self.why
        error = self.lease_thread.error
        trouble = f": {in_words(error)}" if error is not None else ""
        if self.id is None:
            return f"the node has no lease yet{trouble}"
        now, bound = time.monotonic(), self.tunables.lease_seconds
        silent, failing_since = now - self.lease.renewed_at, self.writer.failing_since
        if silent >= bound:
            return f"its lease was last renewed {silent:.0f} s ago{trouble or ': the database is slow'}"
        # An idle writer has nothing to commit, so it can't show that it could; then the lease's commits count.
        if failing_since is not None and now - failing_since >= bound and self.writer.backlog():
            return f"its writer has committed nothing for {now - failing_since:.0f} s: {self.writer.failure}"
        return ""

    # The start

    async def start(self) -> None:
        """Start the threads. The lease follows as soon as the database answers; until then nobody is admitted."""
        self.writer.node_name = self.name
        self.watchdog.start()
        self.writer.start()
        for thread in self._threads:
            thread.start()
        self._logins.start()
        bells.ring_through(self._doorbell)
        call_on_stop(self._server_stops)
        self._timer = self.loop.create_task(self.parts.keepalive.run(), name="connections-keepalive")
        self._watching = self.loop.create_task(self._watch(), name="connections-watch")
        self._tasks = [self._timer, self._watching]
        for task in self._tasks:
            task.add_done_callback(_log_death)

    async def _watch(self) -> None:
        """Note that the event loop runs, and wake the beat to write the verdicts of ended probes."""
        while True:
            self._looped_at = time.monotonic()
            if self.parts.keepalive.answers:
                self.parts.keepalive.answers = 0
                self._beat_thread.ring()
            await asyncio.sleep(self.tunables.tick_seconds)

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

    # What the watchdog says; from its thread

    def cannot_work(self, why: str) -> None:
        """Admit nobody, and have all clients closed, so that they come back elsewhere."""
        self.parts.identity.failing = why
        self._tell_loop(self._move_clients, why)

    def works_again(self) -> None:
        self.parts.identity.failing = ""

    def give_up(self, why: str) -> None:
        """End: the process is started anew. Only a server of ours waits for this."""
        self.parts.identity.failing = why
        self._tell_loop(self.gave_up.set)

    def _tell_loop(self, function: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed at this moment
            self.parts.call(function, *arguments)

    def _move_clients(self, why: str) -> None:
        if self.watchdog.failures.keys() <= {EVENT_LOOP}:
            return  # it runs again, or this would not be called: a fence, if there was one, closes its clients
        for manager in self.registry.all():
            manager.order_close(CloseReason.NODE_DRAINING, f"node {self.name} can't work: {why}")

    # The end

    def _server_stops(self) -> None:
        """Note that Daphne stops: it now cancels its applications. Under `serve` the node has drained by then."""
        self.parts.identity.leaving = True

    async def drain(self, seconds: float = 8.0) -> None:
        """Admit nobody, close every client with a retry time, release the records, give up the lease. Ends in time
        whatever hangs: what could not be released is left to the sweep, or to the fence.
        """
        if self.leaving:
            return
        self.parts.identity.leaving = True
        deadline = time.monotonic() + seconds
        for manager in self.registry.all():
            manager.order_close(CloseReason.NODE_DRAINING, f"node {self.name} is draining")
        clients_until = deadline - CLOSING_SECONDS - RETIRE_SECONDS
        await _until(lambda: all(m.ended is not None for m in self.registry.all()), clients_until)
        await _until(lambda: not len(self.registry), time.monotonic() + CLOSING_SECONDS)
        left = max(RETIRE_SECONDS, deadline - time.monotonic())
        self._logins.stop()
        # No thread of an executor, which would be waited for at the end of the process.
        retiring = threading.Thread(
            target=retire, args=(self.parts, self._threads, left), name="connections-retire", daemon=True
        )
        retiring.start()
        await _until(lambda: not retiring.is_alive(), time.monotonic() + left)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BUS_SECONDS):
                await self.bus.stop()
        for task in self._tasks:
            task.cancel()


def _thread_part(name: str, thread: WorkerThread, *, leases: float = 1.0) -> Part:
    def error() -> str:
        return in_words(thread.error) if thread.error is not None else ""

    return Part(name, lambda: not thread.alive, lambda: thread.last, error, lambda: thread.waits, leases)


def _failed(task: "asyncio.Task[None] | None") -> bool:
    """Whether a task that should run for ever has ended. A cancelled one counts as ending with its event loop."""
    return task is not None and task.done() and not task.cancelled()


def _log_death(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.critical("task_died", exc_info=task.exception(), extra={"task": task.get_name()})


async def _until(condition: Callable[[], bool], deadline: float) -> None:
    """Wait for a condition, until `deadline` on time.monotonic(). Polled: a process drains once, and an event would
    cost every manager a callback.
    """
    while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.05)
