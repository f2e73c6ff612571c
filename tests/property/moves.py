"""The moves that may happen at the same moment on PostgreSQL, each in a thread of its own."""

import uuid
from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import User
from hypothesis import strategies as st

from connections.models import ManagerRecord
from connections.policy.actor import Actor
from connections.policy.admission import Handshake
from connections.policy.states import CloseReason, RunKind
from connections.records import lease
from connections.recovery import actions, runs, sweep
from connections.recovery.open_runs import OpenRuns
from tests.property.cluster import HELD_SECONDS, VALUES, ClusterNode
from tests.property.engine_threads import Job, hold_locks
from tests.property.judges import Judge

STAFF = Actor.command("support")
LOCKS = {
    "gate": "SELECT 1 FROM connections_usergate WHERE user_id = %s FOR UPDATE",
    "records": "SELECT 1 FROM connections_managerrecord WHERE user_id = %s AND closed_at IS NULL FOR UPDATE",
    "user": "SELECT 1 FROM auth_user WHERE id = %s FOR UPDATE",
}

picks = st.integers(0, 7)
who = st.sampled_from((0, 0, 0, 1))  # mostly the same user, since races are between the moves of one user
some_pools = st.sampled_from(("chat", "chat", "orders"))
kinds = st.sampled_from((RunKind.CLEANUP, RunKind.CLEANUP, RunKind.RESET))
Move = tuple[Any, ...]  # the name of a method of `Moves`, and its arguments
moves: st.SearchStrategy[Move] = st.one_of(
    st.tuples(st.just("connect"), picks, who, some_pools, st.integers(1, 5), st.none() | st.integers(1, 3)),
    st.tuples(st.just("connect"), picks, who, some_pools, st.integers(1, 5), st.none()),
    st.tuples(st.just("leave"), picks, st.integers(1, 3)),
    st.tuples(st.just("beat"), picks),
    st.tuples(st.just("renew"), picks),
    st.tuples(st.just("drain"), picks),
    st.tuples(st.just("sweep")),
    st.tuples(st.just("fence")),
    st.tuples(st.just("advance")),
    st.tuples(st.just("recover"), who, kinds, st.sampled_from((False, False, True))),
    st.tuples(st.just("set_limit"), who, some_pools, st.none() | st.integers(1, 4)),
    st.tuples(st.just("close_own"), who),
    st.tuples(st.just("close_one"), who, picks),
    st.tuples(st.just("hold"), who, st.sampled_from(sorted(LOCKS))),
)


class Moves:
    """The moves of a state machine with three users and three nodes. No move is aimed at the last user, and the last
    node never sleeps.
    """

    url: str
    users: list[User]
    nodes: list[ClusterNode]
    judge: Judge

    def job(self, name: str, *arguments: Any) -> Job:
        method: Callable[..., Any] = getattr(self, name)
        return lambda: method(*arguments)

    def node(self, pick: int) -> ClusterNode:
        return self.nodes[pick % 2]

    def connect(self, pick: int, user: int, pool: str, number: int, device: int | None) -> list[Any]:
        node = self.nodes[pick] if user == 2 else self.node(pick)
        shakes = [
            Handshake(
                uuid.uuid4(),
                self.users[user].pk,
                pool,
                device=None if device is None else uuid.UUID(int=device + n),
                attempt=self.judge.next_attempt(),
            )
            for n in range(number)
        ]
        return [(node, shake, decision) for shake, decision in zip(shakes, node.admit(shakes), strict=True)]

    def leave(self, pick: int, number: int) -> None:
        node = self.node(pick)
        for pk in list(node.answers)[:number]:
            node.close(pk, CloseReason.CLIENT_CLOSED, "closed with 1000")

    def beat(self, pick: int) -> None:
        self.node(pick).pass_over()

    def renew(self, pick: int) -> None:
        self.node(pick).renew()

    def drain(self, pick: int) -> None:
        self.node(pick).drain()

    def sweep(self) -> None:
        sweep.sweep(VALUES, "web-2")

    def fence(self) -> None:
        lease.fence(VALUES)

    def advance(self) -> None:
        OpenRuns(VALUES).advance()

    def recover(self, user: int, kind: RunKind, dry_run: bool) -> None:
        runs.request(self.users[user], kind, actor=STAFF, reason="can't connect", dry_run=dry_run)

    def set_limit(self, user: int, pool: str, soft_limit: int | None) -> None:
        actions.set_limit(self.users[user], pool, soft_limit, reason="asked for", actor=STAFF)

    def close_own(self, user: int) -> None:
        actions.close_own(self.users[user], None, actor=STAFF)

    def close_one(self, user: int, pick: int) -> None:
        held = list(ManagerRecord.objects.held().filter(user=self.users[user]).select_related("user"))
        if held:
            actions.close_manager(held[pick % len(held)], actor=STAFF, reason="looks odd")

    def hold(self, user: int, what: str) -> None:
        hold_locks(self.url, LOCKS[what], [self.users[user].pk], HELD_SECONDS)
