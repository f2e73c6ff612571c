"""A node's retirement ends in time and raises nothing, whatever hangs and whatever the database does."""

import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.db import DatabaseError, InterfaceError

from connections import database
from connections.conf import Tunables
from connections.database.worker import WorkerThread
from connections.models import Node
from connections.node.parts import Identity
from connections.node.retirement import retire
from connections.records import lease
from tests.support.rows import make_node, make_record, make_user

pytestmark = pytest.mark.django_db(transaction=True)


def parts_of(row: Node, *, failing: str = "") -> Any:
    identity = Identity(row.name, id=row.pk, failing=failing)
    return cast("Any", SimpleNamespace(identity=identity, tunables=Tunables(), writer=SimpleNamespace(stop=bool)))


def test_a_thread_that_hangs_is_left_behind() -> None:
    row, hung = make_node(), threading.Event()

    def hangs() -> None:
        hung.wait()

    thread = WorkerThread("hung", hangs, lambda: 1.0, beat_seconds=1.0)
    thread.start()
    began = time.monotonic()
    retire(parts_of(row), [thread], 4.0)
    assert time.monotonic() - began < 4.0
    assert Node.objects.get(pk=row.pk).retired_at is not None
    hung.set()
    assert thread.stop(5)


def test_what_the_writer_left_is_released_with_the_part_that_failed() -> None:
    row = make_node()
    record = make_record(make_user("ada"), row)
    retire(parts_of(row, failing="its writer has ended"), [], 4.0)
    record.refresh_from_db()
    assert (record.state, record.close_reason) == ("closed", "node_draining")
    assert record.evidence == f"node {row.name} can't work: its writer has ended"


@pytest.mark.parametrize("error", [DatabaseError, InterfaceError, database.Busy, lease.NodeGone])
def test_no_error_of_the_database_stops_the_drain(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(node_id: object) -> bool:
        raise error("the connection is closed")

    monkeypatch.setattr(lease, "retire", refuses)
    parts = parts_of(make_node())
    retire(parts, [], 1.0)
    assert parts.identity.id is None
