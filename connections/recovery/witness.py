"""Let a management command act as the fencing witness while no node can."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db.models import QuerySet

from connections import database
from connections.conf import Tunables
from connections.database.worker import WorkerThread
from connections.models import Node
from connections.records import lease


class Witness:
    """The vote of a command. It takes a node row once there are nodes and none of them is a steady witness, and renews
    it from then on.
    """

    def __init__(self, values: Tunables) -> None:
        self._values = values
        self._row: Node | None = None
        period = values.beat_seconds / 2
        self.thread = WorkerThread("witness", self._round, lambda: period, beat_seconds=values.beat_seconds)

    def wait_until_steady(self) -> None:
        """Wait while every node is silent and nobody can witness that: at most two leases, the node's and one to become
        steady in, and two beats.
        """
        values = self._values
        until = time.monotonic() + 2 * (values.lease_seconds + values.beat_seconds)
        while time.monotonic() < until and self._needed():
            time.sleep(values.beat_seconds / 4)

    def retire(self) -> None:
        if self._row is not None:
            lease.retire(self._row.pk)

    def _needed(self) -> bool:
        now = database.now()
        on_time = now - timedelta(seconds=self._values.late_seconds)
        others = self._others()
        return (
            others.exists()
            and not others.filter(renewed_at__gte=on_time).exists()
            and not lease.witnesses(now, self._values).exists()
        )

    def _others(self) -> "QuerySet[Node]":
        return Node.objects.holding().exclude(pk=None if self._row is None else self._row.pk)

    def _round(self) -> None:
        if self._row is not None:
            try:
                lease.renew(self._row.pk, self._values)
            except lease.NodeGone:  # this process was stopped for a lease
                self._row = None
        elif self._others().exists() and not lease.witnesses(database.now(), self._values).exists():
            self._row = lease.register(
                self._values, name=f"command-{os.getpid()}", host=socket.gethostname(), pid=os.getpid(), serves=False
            )


@contextmanager
def acting_as_witness(values: Tunables) -> Iterator[Witness]:
    """Be a witness during the block, from the moment on at which no steady node is one. Where living nodes witness,
    nothing is registered. After the block, retire.
    """
    witness = Witness(values)
    witness.thread.start()
    try:
        yield witness
    finally:
        witness.thread.stop(values.beat_seconds)
        witness.retire()
