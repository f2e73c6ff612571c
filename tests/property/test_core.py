"""A state machine over the pure core: policy, heartbeat, node clock, limits, findings and diagnosis."""

import math
import uuid
from datetime import timedelta
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from connections.models import ManagerRecord
from connections.policy.admission import Admission, CountedRecord, Newcomer, admit
from connections.policy.states import CloseReason
from connections.policy.token_bucket import MAX_RETRY_AFTER
from tests.property.invariants import POOLS, USERS, Invariants, goes_first
from tests.property.sockets import TICK, VALUES, ModelNode, Mood, Socket
from tests.property.world import World

DEVICES = [uuid.UUID(int=n) for n in range(1, 9)]
OWED_TOKENS = 1 - MAX_RETRY_AFTER / 2 * VALUES.connect_rate.per_second  # the deepest debt, which keeps waits bounded

users, pools, picks = st.sampled_from(USERS), st.sampled_from(POOLS), st.integers(0, 7)


class Core(Invariants, RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        for _ in range(2):
            self.world.start_node()
        self.promised_times: dict[tuple[uuid.UUID, int, uuid.UUID], float] = {}  # by node, user, device
        self.attempts = count(1)

    def teardown(self) -> None:
        self.world.end()

    def nodes(self, *states: str) -> list[ModelNode]:
        return [node for node in self.world.nodes if node.state in states]

    def sockets(self) -> list[Socket]:
        return [s for node in self.nodes("up", "paused") for s in node.sockets if not s.closing]

    # Handshakes

    def take_token(self, node: ModelNode, user: int, device: uuid.UUID) -> bool:
        """Take a token, or check the refusal: it costs no token, its wait is bounded, and asking again does not prolong
        the wait.
        """
        now, key = self.world.time, (node.row.pk, user, device)
        bucket = node.bucket(user, now)
        told = self.promised_times.get(key)
        before = bucket.tokens if bucket.at == now else None
        if bucket.take(now, device):
            self.promised_times.pop(key, None)
            return True
        assert told is None or told > now, f"refused again at the time it was told to come: {told}"
        wait = bucket.retry_after(now, device)
        assert 0 < wait <= MAX_RETRY_AFTER, f"told to wait for {wait} s"
        assert before is None or bucket.tokens == before, "a refusal took a token"
        assert told is None or now + wait <= told + 1e-6, f"asking again moved {told} to {now + wait}"
        self.promised_times[key] = now + wait
        return False

    def admit(self, node: ModelNode, user: int, pool: str, device: uuid.UUID | None, mood: Mood, inject: bool) -> None:
        world = self.world
        counted = world.holdings(user, pool)
        soft_limit = world.limit(user, pool)
        newcomer = Newcomer(world.new_id(), device, next(self.attempts))
        admission = admit(
            newcomer,
            counted,
            soft_limit=soft_limit,
            burst=VALUES.burst,
            now=world.now,
            handshake=timedelta(seconds=VALUES.handshake_seconds),
        )
        assert admission is not None, "nothing is locked"
        assert not admission.superseded, "nothing is younger than the newest attempt"
        for row in world.counted(user, pool):
            if row.pk == admission.replaced:
                world.order(row, CloseReason.REPLACED, "its device connected again")
            elif row.pk == admission.evicted:
                world.order(row, CloseReason.EVICTED, "ranked first at the ceiling")
        row = ManagerRecord(
            id=newcomer.id, user_id=user, pool=pool, node=node.row, opened_at=world.now, last_active_at=world.now,
            device=device, attempt=newcomer.attempt,
        )  # fmt: skip
        world.rows.append(row)
        node.add(Socket(node, row, mood, node.clock.now(), inject=inject, admission=admission))
        self.check_admission(admission, counted, len(world.counted(user, pool)), soft_limit)
        if admission.open_run:
            world.begin_run(user)
        self.settle(node, user, admission)

    def check_admission(self, admission: Admission, counted: list[CountedRecord], after: int, soft_limit: int) -> None:
        ceiling = soft_limit + VALUES.burst
        assert admission.live == after
        assert after <= max(ceiling, len(counted)), f"{after} counted at a ceiling of {ceiling}, {len(counted)} before"
        assert (after > soft_limit) == admission.open_run, "whoever is over the limit gets a run, and nobody else"
        if admission.evicted is not None:
            others = [h for h in counted if h.id != admission.replaced]
            assert len(others) >= ceiling, "evicted below the ceiling"
            (victim,) = [h for h in others if h.id == admission.evicted]
            assert all(goes_first(victim, h) for h in others), "somebody else ranks before the one that was evicted"
        expected = after > soft_limit and admission.replaced is None and not any(h.on_late_node for h in counted)
        assert admission.costs_two == expected, f"costs two: {admission.costs_two}"

    def settle(self, node: ModelNode, user: int, admission: Admission) -> None:
        bucket = node.bucket(user, self.world.time)
        before = bucket.tokens
        bucket.settle(self.world.time, costs_two=admission.costs_two)
        cost = before - bucket.tokens
        deep = before - 1 < OWED_TOKENS
        assert deep or math.isclose(cost, 1 if admission.costs_two else 0, abs_tol=1e-6), f"a second token cost {cost}"

    @precondition(lambda self: self.nodes("up"))
    @rule(user=users, pool=pools, pick=picks, device=st.sampled_from(DEVICES), number=st.integers(1, 8),
          opens=st.sampled_from([True, True, True, False]), inject=st.sampled_from([True, True, False]))  # fmt: skip
    def connect(
        self, user: int, pool: str, pick: int, device: uuid.UUID, number: int, opens: bool, inject: bool
    ) -> None:
        """Connect several devices at once: each takes its token before any of them is admitted."""
        up = self.nodes("up")
        node = up[pick % len(up)]
        first = DEVICES.index(device)
        let_in = [d for d in (DEVICES * 2)[first : first + number] if self.take_token(node, user, d)]
        for one in let_in:
            self.admit(node, user, pool, one, "answers" if opens else "unopened", inject)

    @precondition(lambda self: self.nodes("up"))
    @rule(user=users, pool=pools, pick=picks, number=st.integers(1, 4))
    def connect_without_device(self, user: int, pool: str, pick: int, number: int) -> None:
        """Connect without a device, which takes tokens but may not break a promise that was made to a device."""
        up = self.nodes("up")
        node = up[pick % len(up)]
        for _ in range(number):
            if node.bucket(user, self.world.time).take(self.world.time):
                self.admit(node, user, pool, None, "answers", inject=True)

    @precondition(lambda self: self.promised_times)
    @rule(pick=picks)
    def come_back_when_told(self, pick: int) -> None:
        """Connect a refused device at the time that it was told: it is admitted, whoever has connected in between."""
        key = sorted(self.promised_times, key=str)[pick % len(self.promised_times)]
        node = next((n for n in self.nodes("up") if n.row.pk == key[0]), None)
        told = self.promised_times[key]
        while self.world.time < told and node is not None:
            self.tick()
        if node is None or self.world.time > told + TICK:
            del self.promised_times[key]  # the node is gone, or other rules have let the time pass
            return
        assert self.take_token(node, key[1], key[2]), "the promise was not kept"
        self.admit(node, key[1], POOLS[0], key[2], "answers", inject=True)

    # Clients and handlers

    @precondition(lambda self: self.sockets())
    @rule(pick=st.integers(0, 30), mood=st.sampled_from(["silent", "silent", "answers", "stuck", "unread"]))
    def turn(self, pick: int, mood: Mood) -> None:
        sockets = self.sockets()
        sockets[pick % len(sockets)].turn(mood)

    @precondition(lambda self: self.sockets())
    @rule(pick=st.integers(0, 30))
    def speak(self, pick: int) -> None:
        sockets = self.sockets()
        sockets[pick % len(sockets)].speaks = True

    @precondition(lambda self: self.nodes("up"))
    @rule(pick=picks)
    def close_cleanly(self, pick: int) -> None:
        sockets = [s for node in self.nodes("up") for s in node.sockets]
        if sockets:
            sockets[pick % len(sockets)].order_close(CloseReason.CLIENT_CLOSED, "closed with 1000")

    # Nodes, limits, runs and time

    @precondition(lambda self: self.nodes("up"))
    @rule(pick=picks)
    def pause_a_node(self, pick: int) -> None:
        up = self.nodes("up")
        node = up[pick % len(up)]
        node.state = "paused"

    @precondition(lambda self: self.nodes("paused"))
    @rule()
    def resume(self) -> None:
        for node in self.nodes("paused"):
            node.state = "up"

    @precondition(lambda self: len(self.nodes("up", "paused")) > 1)
    @rule(pick=picks)
    def kill_a_node(self, pick: int) -> None:
        running = self.nodes("up", "paused")
        running[pick % len(running)].state = "dead"
        self.world.start_node()

    @rule(user=users, pool=pools, soft_limit=st.integers(1, 5) | st.none(), lasts=st.sampled_from([None, 4.0]))
    def set_limit(self, user: int, pool: str, soft_limit: int | None, lasts: float | None) -> None:
        self.world.limit(user, pool)
        gate = self.world.gates[user, pool]
        gate.soft_limit = soft_limit
        gate.expires_at = None if lasts is None else self.world.now + timedelta(seconds=lasts)

    @rule(user=users)
    def recover(self, user: int) -> None:
        self.world.begin_run(user)

    @rule()
    def sweep(self) -> None:
        self.world.fence()
        for user in USERS:
            if any(len(self.world.counted(user, pool)) > self.world.limit(user, pool) for pool in POOLS):
                self.world.begin_run(user)

    @rule(ticks=st.sampled_from([1, 2, 4, 8, 16, 30]))
    def time_passes(self, ticks: int) -> None:
        for _ in range(ticks):
            self.tick()

    def tick(self) -> None:
        self.world.tick()
        self.the_living_are_spared()
        self.the_dead_are_freed()
        self.evictions_are_exact()


TestCore = Core.TestCase
TestCore.settings = settings(stateful_step_count=40, deadline=None)
