"""What the writer's queue hands out, and in which order a batch is replayed. On a clock of the test's own."""

import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from connections.conf import Tunables
from connections.policy.admission import Admission, Handshake
from connections.policy.states import CloseReason, Refused
from connections.records import queue as queue_module
from connections.records import writer as writer_module
from connections.records.batch import Batch
from connections.records.queue import Item, Release, WriteQueue
from connections.records.writer import Writer

LEFT = Release(CloseReason.CLIENT_CLOSED, "closed with 1000")


class FakeTime:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(0.0, seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    made = FakeTime()
    monkeypatch.setattr(queue_module, "time", made)
    monkeypatch.setattr(writer_module, "time", made)
    return made


def endings(queue: WriteQueue, count: int) -> list[uuid.UUID]:
    ids = [uuid.uuid4() for _ in range(count)]
    for pk in ids:
        queue.put_release(pk, LEFT, "ada")
    return ids


def test_a_queue_that_stops_hands_out_all_that_go_alone() -> None:
    queue = WriteQueue(0.1)
    endings(queue, 3)
    queue.keep(queue.take(0.0), alone=True)
    queue.stop()
    while items := queue.take(0.0):
        for item in items:
            queue.done(item)
    assert queue.backlog() == 0


def test_of_many_that_go_alone_each_has_its_turn(clock: FakeTime) -> None:
    queue = WriteQueue(0.0)
    ids = endings(queue, 100)
    queue.keep(queue.take(0.0), alone=True)
    turns = Counter[uuid.UUID]()
    for _ in range(1000):
        began = clock.now
        for item in queue.take(began):
            turns[item.id] += 1
            queue.keep([item], seconds=1.0)
    assert set(turns) == set(ids)


def test_a_bad_row_is_found_however_many_newcomers_come(clock: FakeTime, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, bad = Writer(Tunables(), lambda batch: None), uuid.uuid4()

    def commit(items: list[Item]) -> None:
        clock.sleep(0.008)
        if any(item.id == bad for item in items):
            raise ValueError("bad row")
        writer._settle(items, Batch({item.id: Admission(1, 20, 25) for item in items if item.admit}))

    monkeypatch.setattr(writer, "_commit", commit)
    for pk in (uuid.uuid4(), bad, uuid.uuid4()):
        writer.release(pk, LEFT.reason, LEFT.evidence)
    futures = list[Future[Admission | Refused]]()
    for _ in rounds_of(writer, clock, seconds=10):
        while len(futures) < 150 + (clock.now - 1000) * 200:  # 200 a second, after 150 at once
            futures.append(writer.admit(Handshake(uuid.uuid4(), len(futures), "chat")))
    assert not [future for future in futures if future.done() and isinstance(future.result(), Refused)]
    assert writer.backlog() < 100, "the other endings were written, and no newcomer waits for long"


def rounds_of(writer: Writer, clock: FakeTime, *, seconds: float) -> Iterator[None]:
    """The rounds of the writer's thread, in this one."""
    until, began = clock.now + seconds, 0.0
    while clock.now < until:
        yield
        items = writer._queue.take(began)
        if items:
            began = clock.now
            writer._write(items)
        for admit in writer._queue.give_up(clock.now):
            admit.resolve(Refused.TRY_AGAIN)
