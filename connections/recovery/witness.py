"""Let a management command act as the fencing witness when no node is alive."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from connections import database
from connections.conf import Tunables
from connections.database.worker import WorkerThread
from connections.models import Node
from connections.records import lease


@contextmanager
def acting_as_witness(values: Tunables, *, needed: bool) -> Iterator[None]:
    """Be a witness during the block if it is `needed`, a node has lapsed, and no node is alive.

    Register a node row, renew it in a thread, and wait until it is steady, at most a lease and two beats.
    After the block, retire it.
    """
    if not needed or not _all_lapsed(values):
        yield
        return
    row = lease.register(
        values, name=f"command-{os.getpid()}", host=socket.gethostname(), pid=os.getpid(), serves=False
    )
    renewal = WorkerThread(
        "witness", lambda: _renew(row, values), lambda: values.beat_seconds, beat_seconds=values.beat_seconds
    )
    renewal.start()
    try:
        until = time.monotonic() + values.lease_seconds + 2 * values.beat_seconds
        while time.monotonic() < until and not lease.witnesses(database.now(), values).exists():
            time.sleep(values.beat_seconds / 4)
        yield
    finally:
        renewal.stop(values.beat_seconds)
        lease.retire(row.pk)


def _all_lapsed(values: Tunables) -> bool:
    now = database.now()
    return Node.objects.lapsed(now).exists() and not Node.objects.alive(now).exists()


def _renew(row: Node, values: Tunables) -> None:
    lease.renew(row.pk, values)
