"""The invariants that must hold in the world of the pure core after every step."""

import math

from hypothesis import note
from hypothesis.stateful import invariant

from connections.models import RecoveryRun
from connections.policy.admission import CountedRecord
from connections.policy.diagnosis import Diagnosis, Facts, ManagerFact, diagnose
from connections.policy.states import DEAD, CauseCode, CloseReason, RecordState, Suggestion, Verdict
from connections.recovery.findings import finding_of
from tests.property.sockets import TICK, VALUES, Mood
from tests.property.world import World

USERS = (1, 10)  # one number begins with the other, so that a comparison by prefix would confuse the users
POOLS = ("chat", "orders")
BOUNDS: dict[Mood, float] = {
    "silent": VALUES.heartbeat_seconds + VALUES.pong_seconds,
    "stuck": VALUES.stuck_seconds,
    "unread": VALUES.send_seconds,
    "unopened": VALUES.handshake_seconds,
}
# For each reason that calls a client or handler dead: what it must have been, and for how many seconds at least.
GROUNDS: dict[CloseReason, tuple[tuple[Mood, ...], float]] = {
    CloseReason.UNRESPONSIVE: (("silent", "unread"), min(VALUES.pong_seconds, VALUES.probe_seconds)),
    CloseReason.STUCK: (("stuck",), VALUES.stuck_seconds),
    CloseReason.NEVER_OPENED: (("unopened",), VALUES.handshake_seconds),
    CloseReason.CLIENT_GONE: (("unread",), VALUES.send_seconds),
}


def goes_first(one: CountedRecord, other: CountedRecord) -> bool:
    """Whether `one` may be evicted before `other`: the design's order of victims, written independently of the code."""
    for mine, its in (
        (one.on_late_node, other.on_late_node),
        (one.overdue, other.overdue),
        (not one.turn, not other.turn),
    ):
        if mine != its:
            return mine
    return one.last_active_at <= other.last_active_at


class Invariants:
    """The invariants of a state machine with a `World`."""

    world: World

    @invariant()
    def the_living_are_spared(self) -> None:
        while self.world.ends:
            socket = self.world.ends.pop()
            assert socket.ended is not None
            reason, evidence = socket.ended
            if reason in GROUNDS:
                moods, least = GROUNDS[reason]
                ticks = socket.quiet_ticks if reason is CloseReason.UNRESPONSIVE else socket.bad_ticks
                bad = ticks * TICK
                assert socket.mood in moods, f"a client that {socket.mood} was closed as {reason}: {evidence}"
                assert bad >= least, f"closed as {reason} after {bad} s"

    @invariant()
    def the_dead_are_freed(self) -> None:
        for node in [node for node in self.world.nodes if node.state == "up"]:
            for socket in node.sockets:
                judged = socket.inject or socket.mood != "silent"
                bound = BOUNDS.get(socket.mood, math.inf) + VALUES.beat_seconds
                bad = socket.bad_ticks * TICK
                assert not judged or bad <= bound, f"{socket.mood} for {bad} s and still held"

    @invariant()
    def evictions_are_exact(self) -> None:
        while self.world.evictions:
            done = self.world.evictions.pop()
            wanted = max(0, len(done.living) - done.soft_limit)
            assert len(done.victims) == wanted, f"{len(done.victims)} evicted, {wanted} needed"
            spared = [h for h in done.living if h not in done.victims]
            assert all(goes_first(v, s) for v in done.victims for s in spared), "evicted out of rank"

    @invariant()
    def a_roll_call_calls_dead_only_what_is_proven(self) -> None:
        for run in self.world.runs:
            for row in run.stock:
                found = finding_of(row, run.row, self.world.now).verdict
                proven = row.probe_verdict if row.probe_answered_at is not None else ""
                if row.state == RecordState.LIVE and row.node.fenced_at is None:
                    assert found not in DEAD or found == proven, f"{found} without an answer of its node"
                if row.state == RecordState.LIVE and row.node.fenced_at is not None:
                    assert found is Verdict.NODE_LOST

    @invariant()
    def the_diagnosis_adds_up(self) -> None:
        for user in USERS:
            facts = self.facts_of(user)
            told = diagnose(facts)
            note(told.summary)
            check_diagnosis(told, facts)

    def facts_of(self, user: int) -> Facts:
        world = self.world
        run = next((run.row for run in world.runs if run.user == user), RecoveryRun(user_id=user, roll_call_at=None))
        held = [row for row in world.held() if row.user_id == user]
        fullest = max(POOLS, key=lambda pool: len(world.counted(user, pool)))
        limit = world.limit(user, fullest)
        managers = tuple(
            ManagerFact(finding_of(row, run, world.now).verdict, row.node.name, counted=row.state == RecordState.LIVE)
            for row in held
        )
        return Facts(
            f"user {user}",
            fullest,
            limit,
            limit + VALUES.burst,
            managers,
            len(world.counted(user, fullest)),
            asked=True,
        )


def check_diagnosis(told: Diagnosis, facts: Facts) -> None:
    counts = {cause.code: cause.count for cause in told.causes}
    dead = sum(m.verdict in DEAD for m in facts.managers)
    unknown = sum(m.verdict is Verdict.UNKNOWN for m in facts.managers)
    over = facts.counted_in_pool - facts.soft_limit
    assert told.held == len(facts.managers)
    assert told.counted == sum(m.counted for m in facts.managers)
    assert told.dead == dead == sum(n for code, n in counts.items() if code in {d.value for d in DEAD})
    assert counts.get(CauseCode.UNKNOWN, 0) == unknown, "an unknown manager is neither called dead nor left out"
    assert counts.get(CauseCode.OVER_LIMIT, 0) == max(0, over)
    assert (CauseCode.AT_LIMIT in counts) == (over == 0)
    assert (CauseCode.HEALTHY in counts) == (not dead and not unknown and over < 0)
    assert (told.suggestion is Suggestion.RECOVER) == bool(dead or over > 0), "recover where it helps, and only there"
    assert not dead or f"Recover frees {dead}" in told.summary
