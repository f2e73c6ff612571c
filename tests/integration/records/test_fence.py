"""Leases, steady nodes, and the fence."""

from datetime import timedelta

import pytest

from connections import database
from connections.conf import tunables
from connections.models import Node
from connections.records import lease
from tests.support.concurrency import run_concurrently
from tests.support.rows import make_node

pytestmark = pytest.mark.django_db(transaction=True)
LEASE = 10


def test_a_lapsed_node_is_fenced_once_a_steady_witness_lives() -> None:
    make_node("witness")
    dead = make_node("dead", silent=LEASE + 1)
    assert [node.name for node in lease.fence(tunables())] == ["dead"]
    dead.refresh_from_db()
    assert dead.fenced_at is not None
    assert "no renewal since" in dead.fenced_evidence


def test_no_node_is_fenced_before_its_lease_is_over() -> None:
    make_node("witness")
    make_node("slow", silent=LEASE - 1)
    assert lease.fence(tunables()) == []


@pytest.mark.parametrize("witness", ["none", "late", "not steady yet", "fenced", "retired"])
def test_without_a_steady_witness_nobody_is_fenced(witness: str) -> None:
    now = database.now()
    if witness == "late":
        make_node("late", silent=3.5)
    elif witness == "not steady yet":
        make_node("new", steady_since=now - timedelta(seconds=LEASE - 1))
    elif witness == "fenced":
        make_node("fenced", fenced_at=now)
    elif witness == "retired":
        make_node("retired", retired_at=now)
    make_node("dead", silent=LEASE + 1)
    assert lease.fence(tunables()) == []
    assert lease.would_fence(tunables(), now) == set()


def test_after_an_outage_no_node_fences_before_all_could_renew() -> None:
    """After all nodes were away for longer than a lease, the first that comes back may not fence for a whole lease."""
    nodes = [make_node(name, silent=60) for name in ("a", "b", "c")]
    lease.renew(nodes[0].pk, tunables())
    assert lease.fence(tunables()) == []
    for node in nodes[1:]:
        lease.renew(node.pk, tunables())
    assert Node.objects.alive(database.now()).count() == 3


def test_a_late_renewal_restarts_steadiness_and_one_in_time_keeps_it() -> None:
    in_time, late = make_node("in time", silent=1), make_node("late", silent=4)
    since = in_time.steady_since
    for node in (in_time, late):
        lease.renew(node.pk, tunables())
        node.refresh_from_db()
    assert in_time.steady_since == since
    assert (database.now() - late.steady_since).total_seconds() < 2


def test_a_lapsed_node_that_is_not_fenced_renews_and_a_fenced_one_never_does() -> None:
    make_node("witness")
    node = make_node("asleep", silent=60)
    lease.renew(node.pk, tunables())
    assert lease.fence(tunables()) == []
    Node.objects.filter(pk=node.pk).update(
        renewed_at=database.now() - timedelta(60), lease_expires_at=database.now() - timedelta(30)
    )
    assert lease.fence(tunables()) != []
    with pytest.raises(lease.NodeGone):
        lease.renew(node.pk, tunables())
    with pytest.raises(lease.NodeGone):
        lease.hold_node(node.pk)


def test_concurrent_fences_fence_a_node_once() -> None:
    make_node("witness")
    make_node("dead", silent=LEASE + 1)
    done = run_concurrently(*[lambda: len(lease.fence(tunables()))] * 4)
    assert sorted(done) == [0, 0, 0, 1]


def test_a_concurrent_renewal_and_fence_never_both_succeed() -> None:
    make_node("witness")
    for round_ in range(5):
        node = make_node(f"edge-{round_}", silent=LEASE + 1)

        def renew(pk: object = node.pk) -> bool:
            try:
                lease.renew(pk, tunables())  # type: ignore[arg-type]
            except lease.NodeGone:
                return False
            return True

        fenced, renewed = run_concurrently(lambda: bool(lease.fence(tunables())), renew)
        assert fenced != renewed
