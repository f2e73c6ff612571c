"""While many sockets are open, their objects are frozen for the garbage collector; after their end they are freed."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from connections.server.gc_freeze import FREEZE_SOCKETS, THAW_SOCKETS, Freezer
from connections.websocket.registry import Registry


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


class InCycle:
    """A socket that is part of a reference cycle, as a manager with its tasks is."""

    def __init__(self, number: int) -> None:
        self.id = number
        self.me = self


def socket(number: int) -> Any:
    return InCycle(number)


def test_objects_of_open_sockets_are_frozen_and_freed_after_the_sockets_end() -> None:
    registry = Registry()
    freezer = Freezer(registry)
    sockets = [socket(number) for number in range(FREEZE_SOCKETS)]
    for one in sockets[:-1]:
        registry.add(one)
    before = gc.get_freeze_count()
    freezer.look()
    assert gc.get_freeze_count() == before, "too few to be worth it"
    registry.add(sockets[-1])
    freezer.look()
    assert gc.get_freeze_count() > before

    first = weakref.ref(sockets[0])
    while sockets:
        registry.remove(sockets.pop())
    del one
    gc.collect()
    assert first() is not None, "frozen: no collection looks at it"
    for number in range(THAW_SOCKETS - FREEZE_SOCKETS):
        late = socket(number)
        registry.add(late)
        registry.remove(late)
    freezer.look()
    assert first() is None
