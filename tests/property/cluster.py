"""The nodes of the state machine on PostgreSQL: real rows, leases and writers, and clients of which the test knows
whether they answer. The nodes' clock is the database's, shifted by the time that the test lets pass.
"""

import threading
import time
import uuid
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

from connections import database
from connections.conf import Tunables
from connections.models import ManagerRecord
from connections.policy.admission import Admission, Handshake
from connections.policy.states import DEAD, CloseReason, ProbeMode, Refused, Verdict
from connections.records import lease
from connections.records.lease import NodeGone
from connections.records.writer import Writer

# How long an outsider holds a lock: longer than the writer waits for a lock, shorter than a handshake may take.
HELD_SECONDS = 0.35
VALUES = replace(Tunables(), soft_limit=3, burst=2, beat_seconds=2.0, lease_seconds=10.0, admission_seconds=0.7)
FLUSH_SECONDS = 15.0


class ShiftedClock:
    """The database's clock plus an offset, with which a test lets time pass without waiting."""

    def __init__(self) -> None:
        self.offset = timedelta()
        self._real = database.now
        self._patch = mock.patch("connections.database.now", self.now)
        self._patch.start()

    def now(self) -> datetime:
        return self._real() + self.offset

    def end(self) -> None:
        self._patch.stop()


@dataclass(eq=False)
class ClusterNode:
    """One process with its writer. `id` is the node's row that the process believes to be its own."""

    name: str
    clock: ShiftedClock
    awake: bool = True
    dead: bool = False
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    answers: dict[uuid.UUID, bool] = field(default_factory=dict)  # by socket: whether its client answers
    closed: set[uuid.UUID] = field(default_factory=set)  # the sockets that have ended, some before they were admitted
    renewals: dict[uuid.UUID, list[datetime]] = field(default_factory=dict)  # the times of the renewals, by node row

    def __post_init__(self) -> None:
        self._admitting = threading.Lock()  # no handshake is admitted while the node drains
        self.writer = Writer(VALUES, lambda batch: None)
        self.writer.node_name = self.name
        self.register()
        self.writer.start()

    def register(self) -> None:
        row = lease.register(VALUES, name=self.name, host="test", pid=1, serves=True)
        self.id = self.writer.node_id = row.pk
        self.renewals[row.pk] = [row.renewed_at]

    def renew(self) -> None:
        """Renew the lease as a node's lease thread does: a fenced node closes its clients and registers again."""
        try:
            lease.renew(self.id, VALUES, len(self.answers))
            self.renewals[self.id].append(self.clock.now())
        except NodeGone:
            self.writer.node_id = None
            for pk in list(self.answers):
                self.close(pk, CloseReason.NODE_LOST, "its node was fenced while it was away, and woke up")
            self.register()

    def admit(self, handshakes: list[Handshake]) -> list[Admission | Refused]:
        """Admit several handshakes at once. As on a real node, each has its manager before its slot."""
        with self._admitting:
            self.answers |= dict.fromkeys((shake.id for shake in handshakes), True)
            futures: list[Future[Any]] = [self.writer.admit(shake) for shake in handshakes]
            _, late = wait(futures, FLUSH_SECONDS)
            assert not late, f"{len(late)} handshakes were never answered"
        decided = [future.result() for future in futures]
        for shake, decision in zip(handshakes, decided, strict=True):
            if isinstance(decision, Refused):
                self.answers.pop(shake.id, None)
        return decided

    def close(self, pk: uuid.UUID, reason: CloseReason, evidence: str) -> None:
        """End a socket: release its slot through the writer."""
        if self.answers.pop(pk, None) is not None:
            self.closed.add(pk)
            self.writer.release(pk, reason, evidence)

    def pass_over(self) -> None:
        """Close what is marked as closing, as a node's beat does, and answer probes for the clients."""
        node_id = self.id
        closing = ManagerRecord.objects.closing().on(node_id).values_list("pk", "close_reason", "evidence")
        for pk, reason, evidence in list(closing):
            self.close(pk, CloseReason(reason), evidence)
        wanted = ManagerRecord.objects.probe_wanted().on(node_id).values_list("pk", "probe_wanted_at", "probe_mode")
        for pk, wanted_at, mode in list(wanted):
            if pk not in self.answers:
                continue  # the socket is closed, and its release is not written yet
            verdict = Verdict.ALIVE if self.answers[pk] else Verdict.UNRESPONSIVE
            ManagerRecord.objects.filter(pk=pk, probe_wanted_at=wanted_at, probe_answered_at=None).update(
                probe_answered_at=database.now(), probe_verdict=verdict, probe_evidence="asked"
            )
            if verdict in DEAD and mode == ProbeMode.CLOSE:
                self.close(pk, CloseReason.UNRESPONSIVE, "did not answer the roll call")

    def drain(self) -> None:
        """Close all sockets, wait until that is written, retire, and register as a new node."""
        with self._admitting:
            for pk in list(self.answers):
                self.close(pk, CloseReason.NODE_DRAINING, f"node {self.name} is draining")
            self.flush()
            lease.retire(self.id)
            self.register()

    def flush(self) -> None:
        """Wait until the writer has written all that it was given."""
        deadline = time.monotonic() + FLUSH_SECONDS
        while self.writer.backlog():
            assert time.monotonic() < deadline, f"{self.writer.backlog()} items of {self.name} were never written"
            time.sleep(0.002)

    def end(self) -> None:
        assert self.writer.stop(FLUSH_SECONDS), "a writer did not end"

    def steady_at(self, moment: datetime, identity: uuid.UUID) -> bool:
        """Whether a row of this node was steady at a moment: it had renewed for a whole lease without being late."""
        late, whole = timedelta(seconds=VALUES.late_seconds), timedelta(seconds=VALUES.lease_seconds)
        times = [at for at in self.renewals[identity] if at <= moment]
        if not times or moment - times[-1] > late:
            return False
        since = times[-1]
        for earlier in reversed(times[:-1]):
            if since - earlier > late:
                break
            since = earlier
        return moment - since >= whole
