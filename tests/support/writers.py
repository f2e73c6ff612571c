"""Writers of a node without its other threads, and the handshakes and endings that they are given."""

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from connections import database
from connections.conf import Tunables
from connections.policy.admission import Admission, Handshake
from connections.policy.states import CloseReason, Refused
from connections.records.writer import Writer
from tests.support.rows import make_node

LEFT = (CloseReason.CLIENT_CLOSED, "closed with 1000")


@contextmanager
def running_writer(values: Tunables, **node: Any) -> Iterator[Writer]:
    """The writer of a new node, which has to end within 10 s at the end of the block."""
    writer = Writer(values, lambda batch: None)
    writer.node_id = make_node("web", **node).pk
    writer.start()
    yield writer
    assert writer.stop(10)


def shake(user: Any, device: uuid.UUID | None = None) -> Handshake:
    return Handshake(uuid.uuid4(), user.pk, "chat", device=device, attempt=1)


def admitted(future: "Future[Admission | Refused]") -> Admission:
    decision = future.result(10)
    assert isinstance(decision, Admission), decision
    return decision


def until_written(writer: Writer, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while writer.backlog():
        assert time.monotonic() < deadline, f"{writer.backlog()} were never written"
        time.sleep(0.01)


def failing_at_first(times: list[int]) -> Callable[..., AbstractContextManager[None]]:
    """An `own_connection` that fails `times[0]` times, which it counts down, and then works."""
    own = database.own_connection

    def own_connection(beat_seconds: float, *, lock_seconds: float | None = None) -> AbstractContextManager[None]:
        if times[0]:
            times[0] -= 1
            raise RuntimeError("can't start new thread")
        return own(beat_seconds, lock_seconds=lock_seconds)

    return own_connection
