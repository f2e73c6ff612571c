"""The engine on a real PostgreSQL: several of its functions at the same moment, each on a connection of its own."""

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
from tests.property.engine_threads import Job, Players, Samples
from tests.property.moves import LOCKS, Move, Moves, kinds, moves, picks, some_pools, who
from tests.support.databases import Database
from tests.support.default_database import default_database

POOLS = ("chat", "orders")
PLAYERS = 7  # as many as there are in `everything_heals`


class Heard(logging.Handler):
    """What the engine has logged as wrong since it was last asked."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() != "node_fenced":  # which the moves ask for
            self.records.append(record)


class OnPostgres(Moves, RuleBasedStateMachine):
    def __init__(self, database_of_test: Database, failures: list[AssertionError]) -> None:
        super().__init__()
        self.failures = failures
        self.trace: list[str] = []
        self.stirred = False  # since it last healed
        self.url = database_of_test.url
        self.stack = ExitStack()
        names = ("u1", "u2", "u3")
        self.users = [User.objects.get(pk=database_of_test.user(name).id) for name in names]
        clear()
        self.clock = ShiftedClock()
        self.stack.callback(self.clock.end)
        self.heard = Heard()
        logging.getLogger("connections").addHandler(self.heard)
        self.stack.callback(logging.getLogger("connections").removeHandler, self.heard)
        self.samples = self.stack.enter_context(Samples(self.url))
        self.players = self.stack.enter_context(Players(PLAYERS, VALUES.beat_seconds))
        self.nodes = [self.start_node(f"web-{n}") for n in range(3)]
        self.judge = judges.Judge(self.clock, self.nodes)
        # On a node that is never asked for anything, a user whom nobody touches.
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

    @rule(chosen=st.lists(moves, min_size=2, max_size=PLAYERS))
    def several(self, chosen: list[Move]) -> None:
        self.at_once(chosen)

    @rule(user=who, pool=some_pools, number=st.integers(2, 5), also=st.lists(moves, max_size=1))
    def rush(self, user: int, pool: str, number: int, also: list[Move]) -> None:
        """Everybody comes at once, to both nodes."""
        self.at_once([("connect", pick, user, pool, number, None) for pick in range(PLAYERS - 1)] + also)

    def at_once(self, chosen: list[Move]) -> None:
        self.trace.append(f"at once: {chosen}")
        self.step([self.job(*move) for move in chosen], limits=[move[3] for move in chosen if move[0] == "set_limit"])

    @rule(pick=picks, wakes=st.booleans(), also=st.lists(moves, max_size=2))
    def away_for_longer_than_its_lease(self, pick: int, wakes: bool, also: list[Move]) -> None:
        """A node sleeps while others are steady, and somebody connects to it as it is fenced."""
        self.time_passes(6)
        self.fall_asleep_or_wake(pick, awake=False)
        self.time_passes(6)
        wake: list[Move] = [("renew", pick)] if wakes else []
        self.at_once([("sweep",), ("fence",), ("connect", pick, 0, "chat", 3, None), *wake, *also])
        self.at_once([("connect", pick, 0, "chat", 2, None), ("sweep",)])

    @rule(seconds=st.sampled_from((4.0, 11.0, 25.0)), pick=picks, also=st.lists(moves, max_size=2))
    def an_outage(self, seconds: float, pick: int, also: list[Move]) -> None:
        """The database is away for all, and the first who come back sweep."""
        self.nobody_renews(seconds)
        self.at_once([("sweep",), ("fence",), *also])
        self.at_once([("renew", pick), ("sweep",), ("fence",), ("connect", pick, 0, "chat", 2, None)])
        self.at_once([("sweep",), ("fence",), ("renew", pick + 1), *also])

    @rule(what=st.sampled_from(sorted(LOCKS)), pick=picks, also=st.lists(moves, max_size=2))
    def somebody_holds_locks(self, what: str, pick: int, also: list[Move]) -> None:
        """Of one user's rows: the other's handshakes and endings go on."""
        both: list[Move] = [("connect", n, n, "chat", 2, None) for n in (0, 1)]
        self.at_once([("hold", 0, what), *both, ("connect", 0, 1, "chat", 1, None), ("leave", pick, 2), *also])

    @rule(user=who, kind=kinds, also=st.lists(moves, max_size=2))
    def a_recovery(self, user: int, kind: RunKind, also: list[Move]) -> None:
        """From its request to its end, with two that advance it at the same time."""
        self.at_once([("recover", user, kind, False), ("advance",), ("beat", 0), ("beat", 1), *also])
        for _ in range(4):
            self.time_passes(1)
            self.at_once([("advance",), ("advance",), ("beat", 0), ("beat", 1)])

    @precondition(lambda self: any(node.awake for node in self.nodes))
    @rule(beats=st.sampled_from((1, 1, 3, 6)))
    def time_passes(self, beats: int) -> None:
        """Whoever is awake renews each beat."""
        self.trace.append(f"{beats} beats pass")
        for _ in range(beats):
            self.clock.offset += timedelta(seconds=VALUES.beat_seconds)
            self.step([node.renew for node in self.nodes if node.awake])

    def nobody_renews(self, seconds: float) -> None:
        """An outage of the database, as it looks from the rows."""
        self.trace.append(f"nobody renews for {seconds} s")
        self.clock.offset += timedelta(seconds=seconds)

    @rule(pick=picks, awake=st.booleans())
    def fall_asleep_or_wake(self, pick: int, awake: bool) -> None:
        """Asleep it renews nothing by itself; what it still does, a paused process may do as it wakes."""
        self.trace.append(f"{self.node(pick).name} {'wakes' if awake else 'falls asleep'}")
        self.node(pick).awake = awake

    @rule(pick=picks, number=st.integers(1, 3))
    def clients_fall_silent(self, pick: int, number: int) -> None:
        node = self.node(pick)
        self.trace.append(f"{number} clients of {node.name} fall silent")
        for pk in list(node.answers)[:number]:
            node.answers[pk] = False
            self.judge.silent.add(pk)

    @precondition(lambda self: self.stirred)
    @rule()
    def everything_heals(self) -> None:
        """After any fault, records and sockets agree, and who is over the limit is back at it."""
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
        self.stirred = False
        with self.remembered():
            self.judge.records_and_sockets_agree()
            limits = judges.limits(self.users, POOLS, database.now())
            self.judge.back_at_the_limit(limits, before if undisturbed else None)

    def step(self, jobs: list[Job], *, limits: Sequence[int | None] = ()) -> None:
        """All at the same moment; then everything that was handed to a writer is written, and judged."""
        ceilings = judges.ceilings(self.users, POOLS, database.now(), limits)
        self.judge.begin()
        self.samples.take()
        self.stirred = True
        with self.remembered():
            outcomes = self.players.at_once(jobs)
            for node in self.nodes:
                node.flush()
            logged, self.heard.records = self.heard.records, []
            self.judge.nothing_failed(outcomes, logged)
            self.judge.handshakes_are_answered(outcomes)
            self.judge.bounded(self.samples.take(), ceilings)
            self.judge.records_are_final()
            self.judge.the_living_are_spared()
            self.judge.fences_are_witnessed()
            assert judges.records_of(self.bystander) == self.untouched, "a user whom nobody touched"

    @contextmanager
    def remembered(self) -> Iterator[None]:
        """A race may not show again when Hypothesis repeats its example: what it found is kept."""
        try:
            yield
        except AssertionError as error:
            error.add_note("what happened:\n" + "\n".join(self.trace))
            self.failures.append(error)
            raise


def clear() -> None:
    """An empty cluster: every row of ours but the users."""
    with connection.cursor() as cursor:
        cursor.execute(
            "TRUNCATE connections_managerrecord, connections_node, connections_usergate, connections_recoveryrun,"
            " connections_runstep, connections_refusal, connections_auditentry CASCADE"
        )


@pytest.fixture
def on_postgres(postgres_database: Database, django_db_blocker: Any) -> Iterator[Database]:
    # Sooner than our patience for a lock: a deadlock shows as one, and not as somebody who was slow.
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
                phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a race does not shrink
            ),
        )
    finally:
        if failures:
            raise failures[0]
