"""When a node calls itself ready: it holds its lease, commits, and admits."""

import asyncio
import time
from collections.abc import Callable
from uuid import uuid4

import pytest
from django.db import OperationalError

from connections.conf import Tunables
from connections.node.runtime import NodeRuntime
from connections.policy.states import CloseReason

VALUES = Tunables()


def unready(change: Callable[[NodeRuntime], None]) -> str:
    """Build a node that has a lease and whose threads have not begun, change it, and ask it."""

    async def main() -> str:
        node = NodeRuntime(VALUES, "web-1")
        node.parts.identity.id = uuid4()
        assert node.unready == ""
        change(node)
        return node.unready

    return asyncio.run(main())


def lease_not_renewed(node: NodeRuntime) -> None:
    node.lease.renewed_at -= VALUES.lease_seconds


def lease_not_renewed_with_error(node: NodeRuntime) -> None:
    lease_not_renewed(node)
    node.lease_thread.error = OperationalError("cannot execute UPDATE in a read-only transaction")


def writer_failing(node: NodeRuntime, *, since: float = VALUES.lease_seconds) -> None:
    node.writer.failing_since, node.writer.failure = time.monotonic() - since, "the disk is full"
    node.writer.release(uuid4(), CloseReason.CLIENT_CLOSED, "it waits to be written")


def writer_failing_for_a_moment(node: NodeRuntime) -> None:
    writer_failing(node, since=0.0)


def writer_idle_since_it_failed(node: NodeRuntime) -> None:
    node.writer.failing_since = time.monotonic() - VALUES.lease_seconds


def beat_hangs(node: NodeRuntime) -> None:
    node.watchdog.failures = {"beat": "its beat has not finished a round for 10 s"}


def without_lease(node: NodeRuntime) -> None:
    node.parts.identity.id = None


def drained(node: NodeRuntime) -> None:
    node.drain_wanted.set()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lease_not_renewed, "its lease was last renewed 10 s ago: the database is slow"),
        (lease_not_renewed_with_error, "its lease was last renewed 10 s ago: the database is read-only"),
        (writer_failing, "its writer has committed nothing for 10 s: the disk is full"),
        (writer_failing_for_a_moment, ""),
        (writer_idle_since_it_failed, ""),
        (beat_hangs, "its beat has not finished a round for 10 s"),
        (without_lease, "the node has no lease yet"),
        (drained, "the node is draining"),
    ],
)
def test_a_node_that_is_not_ready_says_why(change: Callable[[NodeRuntime], None], why: str) -> None:
    assert unready(change) == why


def test_a_node_whose_event_loop_has_ended_holds_no_lease_for_ever() -> None:
    """Its process may live on, and hold another node: its records would never be freed."""

    async def main() -> NodeRuntime:
        node = NodeRuntime(VALUES, "web-1")
        assert node.works
        return node

    assert not asyncio.run(main()).works


def test_a_node_without_its_watchdog_holds_no_lease_for_ever() -> None:
    """Nobody would notice any more that it hangs."""

    async def main() -> bool:
        node = NodeRuntime(VALUES, "web-1")
        node.watchdog.failures = {"watchdog": "its watchdog has ended"}
        return node.works

    assert not asyncio.run(main())
