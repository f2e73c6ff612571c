"""A state machine over the engine on a real PostgreSQL: several calls at once, each on a connection of its own."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from psycopg import sql

from connections import database
from connections.models import RecoveryRun
from connections.policy.states import RunKind, Step
from tests.property import judges
from tests.property.cluster import VALUES, ClusterNode, ShiftedClock
from tests.property.engine_threads import CountSampler, EngineThreads, Job
from tests.property.moves import LOCKS, Move, Moves, kinds, moves, picks, some_pools, who
from tests.support.databases import Database
from tests.support.default_database import default_database

POOLS = ("chat", "orders")
THREADS = 7  # as many as `everything_heals` runs jobs at once


class LoggedWarnings(logging.Handler):
    """The engine's warnings and errors since the last step."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() != "node_fenced":  # fences are part of the moves
            self.records.append(record)


class OnPostgres(Moves, RuleBasedStateMachine):
    def __init__(self, database_of_test: Database, failures: list[AssertionError]) -> None:
        super().__init__()
        self.failures = failures
        self.trace: list[str] = []
        self.changed = False  # since `everything_heals`
        self.url = database_of_test.url
        self.stack = ExitStack()
        names = ("u1", "u2", "u3")
        self.users = [User.objects.get(pk=database_of_test.user(name).id) for name in names]
        clear()
        self.clock = ShiftedClock()
        self.stack.callback(self.clock.end)
        self.warnings = LoggedWarnings()
        logging.getLogger("connections").addHandler(self.warnings)
        self.stack.callback(logging.getLogger("connections").removeHandler, self.warnings)
        self.sampler = self.stack.enter_context(CountSampler(self.url))
        self.threads = self.stack.enter_context(EngineThreads(THREADS, VALUES.beat_seconds))
        self.nodes = [self.start_node(f"web-{n}") for n in range(3)]
        self.judge = judges.Judge(self.clock, self.nodes)
        # A user that no move touches, with a manager on a node that no move touches.
        self.bystander = self.users[2]
        self.connect(2, 2, "chat", 2, None)
        self.untouched = judges.records_of(self.bystander)

    def start_node(self, name: str) -> ClusterNode:
        node = ClusterNode(name, self.clock)
        self.stack.callback(node.end)
        return node

    def teardown(self) -> None:
        self.stack.close()

    # Rules

    @rule(chosen=st.lists(moves, min_size=2, max_size=THREADS))
    def several(self, chosen: list[Move]) -> None:
        self.at_once(chosen)

    @rule(user=who, pool=some_pools, number=st.integers(2, 5), also=st.lists(moves, max_size=1))
    def rush(self, user: int, pool: str, number: int, also: list[Move]) -> None:
        """Connect many devices of one user at once, on both nodes."""
        self.at_once([("connect", pick, user, pool, number, None) for pick in range(THREADS - 1)] + also)

    def at_once(self, chosen: list[Move]) -> None:
        self.trace.append(f"at once: {chosen}")
        self.step([self.job(*move) for move in chosen], limits=[move[3] for move in chosen if move[0] == "set_limit"])

    @rule(pick=picks, wakes=st.booleans(), also=st.lists(moves, max_size=2))
    def away_for_longer_than_its_lease(self, pick: int, wakes: bool, also: list[Move]) -> None:
        """Let a node sleep while others are steady, and let clients connect to it while it is fenced."""
        self.time_passes(6)
        self.fall_asleep_or_wake(pick, awake=False)
        self.time_passes(6)
        wake: list[Move] = [("renew", pick)] if wakes else []
        self.at_once([("sweep",), ("fence",), ("connect", pick, 0, "chat", 3, None), *wake, *also])
        self.at_once([("connect", pick, 0, "chat", 2, None), ("sweep",)])

    @rule(seconds=st.sampled_from((4.0, 11.0, 25.0)), pick=picks, also=st.lists(moves, max_size=2))
    def an_outage(self, seconds: float, pick: int, also: list[Move]) -> None:
        """Take the database away from all nodes, and let the first that come back sweep."""
        self.nobody_renews(seconds)
        self.at_once([("sweep",), ("fence",), *also])
        self.at_once([("renew", pick), ("sweep",), ("fence",), ("connect", pick, 0, "chat", 2, None)])
        self.at_once([("sweep",), ("fence",), ("renew", pick + 1), *also])

    @rule(what=st.sampled_from(sorted(LOCKS)), pick=picks, also=st.lists(moves, max_size=2))
    def somebody_holds_locks(self, what: str, pick: int, also: list[Move]) -> None:
        """Hold the locks of one user's rows, while the other user's handshakes and endings go on."""
        both: list[Move] = [("connect", n, n, "chat", 2, None) for n in (0, 1)]
        self.at_once([("hold", 0, what), *both, ("connect", 0, 1, "chat", 1, None), ("leave", pick, 2), *also])

    @rule(user=who, kind=kinds, also=st.lists(moves, max_size=2))
    def a_recovery(self, user: int, kind: RunKind, also: list[Move]) -> None:
        """Carry out a run from its request to its end, with two threads that advance it at the same time."""
        self.at_once([("recover", user, kind, False), ("advance",), ("beat", 0), ("beat", 1), *also])
        for _ in range(4):
            self.time_passes(1)
            self.at_once([("advance",), ("advance",), ("beat", 0), ("beat", 1)])

    @precondition(lambda self: any(node.awake for node in self.nodes))
    @rule(beats=st.sampled_from((1, 1, 3, 6)))
    def time_passes(self, beats: int) -> None:
        """Let beats pass, in each of which all nodes that are awake renew."""
        self.trace.append(f"{beats} beats pass")
        for _ in range(beats):
            self.clock.offset += timedelta(seconds=VALUES.beat_seconds)
            self.step([node.renew for node in self.nodes if node.awake])

    def nobody_renews(self, seconds: float) -> None:
        """Let time pass without a renewal, as in an outage of the database."""
        self.trace.append(f"nobody renews for {seconds} s")
        self.clock.offset += timedelta(seconds=seconds)

    @rule(pick=picks, awake=st.booleans())
    def fall_asleep_or_wake(self, pick: int, awake: bool) -> None:
        """A node that is asleep does not renew by itself. It may do other moves, as a paused process that wakes."""
        self.trace.append(f"{self.node(pick).name} {'wakes' if awake else 'falls asleep'}")
        self.node(pick).awake = awake

    @rule(pick=picks, number=st.integers(1, 3))
    def clients_fall_silent(self, pick: int, number: int) -> None:
        node = self.node(pick)
        self.trace.append(f"{number} clients of {node.name} fall silent")
        for pk in list(node.answers)[:number]:
            node.answers[pk] = False
            self.judge.silent.add(pk)

    @precondition(lambda self: self.changed)
    @rule()
    def everything_heals(self) -> None:
        """Repair all faults, and check that records and sockets agree and no user is over a limit."""
        self.trace.append("everything heals")
        for node in self.nodes:
            node.awake = True
        before = self.judge.living_counted()
        undisturbed = not RecoveryRun.objects.open().exclude(step=Step.TAKE_STOCK, kind=RunKind.CLEANUP).exists()
        for number in range(16):  # more than two leases, and the probe
            self.clock.offset += timedelta(seconds=VALUES.beat_seconds)
            self.step([node.renew for node in self.nodes])
            self.step([self.sweep, self.advance, self.advance, *(node.pass_over for node in self.nodes)])
            if number > 12 and not RecoveryRun.objects.open().exists():
                break
        self.changed = False
        with self.keep_failure():
            self.judge.records_and_sockets_agree()
            limits = judges.limits(self.users, POOLS, database.now())
            self.judge.back_at_the_limit(limits, before if undisturbed else None)

    def step(self, jobs: list[Job], *, limits: Sequence[int | None] = ()) -> None:
        """Run the jobs at the same moment, wait until the writers have written all results, and judge the rows."""
        ceilings = judges.ceilings(self.users, POOLS, database.now(), limits)
        self.judge.begin()
        self.sampler.take()
        self.changed = True
        with self.keep_failure():
            outcomes = self.threads.at_once(jobs)
            for node in self.nodes:
                node.flush()
            logged, self.warnings.records = self.warnings.records, []
            self.judge.nothing_failed(outcomes, logged)
            self.judge.handshakes_are_answered(outcomes)
            self.judge.bounded(self.sampler.take(), ceilings)
            self.judge.records_are_final()
            self.judge.the_living_are_spared()
            self.judge.fences_are_witnessed()
            assert judges.records_of(self.bystander) == self.untouched, "a user whom nobody touched"

    @contextmanager
    def keep_failure(self) -> Iterator[None]:
        """Keep a failure with the trace of its moves, since a race may not show again in a repeated example."""
        try:
            yield
        except AssertionError as error:
            error.add_note("what happened:\n" + "\n".join(self.trace))
            self.failures.append(error)
            raise


def clear() -> None:
    """Delete all rows of the engine; the users stay."""
    with connection.cursor() as cursor:
        cursor.execute(
            "TRUNCATE connections_managerrecord, connections_node, connections_usergate, connections_recoveryrun,"
            " connections_runstep, connections_refusal, connections_auditentry CASCADE"
        )


@pytest.fixture
def on_postgres(postgres_database: Database, django_db_blocker: Any) -> Iterator[Database]:
    # PostgreSQL looks for deadlocks sooner than the engine gives up waiting for a lock, so each deadlock is reported.
    with psycopg.connect(postgres_database.url, autocommit=True) as server:
        name = sql.Identifier(server.info.dbname)
        server.execute(sql.SQL("ALTER DATABASE {} SET deadlock_timeout = '50ms'").format(name))
    with django_db_blocker.unblock(), default_database(postgres_database.url):
        yield postgres_database


@pytest.mark.timeout(3600)  # with the profile `thorough`
def test_what_must_always_hold_while_all_happens_at_once(on_postgres: Database) -> None:
    profile = settings.get_profile(settings.get_current_profile_name())
    failures: list[AssertionError] = []
    try:
        run_state_machine_as_test(
            lambda: OnPostgres(on_postgres, failures),  # type: ignore[arg-type]  # any factory does
            settings=settings(
                profile,
                max_examples=max(1, profile.max_examples // 30),
                stateful_step_count=12,
                phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a race can't be shrunk, as it is not repeatable
            ),
        )
    finally:
        if failures:
            raise failures[0]
