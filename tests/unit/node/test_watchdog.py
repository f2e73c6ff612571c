"""The watchdog over parts and a clock that the test moves: what it says of a node, and when it gives up."""

import threading
import time
from dataclasses import dataclass, field

import pytest

from connections.conf import Tunables
from connections.node.watchdog import Part, Watchdog, WorkingClock

VALUES = Tunables()
BEAT, LEASE = VALUES.beat_seconds, VALUES.lease_seconds


@dataclass
class Node:
    """A node that notes what the watchdog tells it."""

    name: str = "web-1"
    over: bool = False
    leaving: bool = False
    told: list[str] = field(default_factory=list)

    def cannot_work(self, why: str) -> None:
        self.told.append(f"cannot work: {why}")

    def works_again(self) -> None:
        self.told.append("works again")

    def give_up(self, why: str) -> None:
        self.told.append("gives up")


class Stage:
    """A node with a beat and a timer under a clock that only `go_on` and `stop` move."""

    def __init__(self) -> None:
        self.time, self.last, self.timer_ended, self.waits = 1000.0, 0.0, False, False
        self.node = Node()
        parts = [
            Part("beat", lambda: False, lambda: self.last, lambda: "ValueError", lambda: self.waits),
            Part("keepalive", lambda: self.timer_ended),
        ]
        clock = WorkingClock(BEAT, lambda: self.time)
        self.dog = Watchdog(self.node, parts, VALUES, clock=clock)
        self.dog.may_end = True

    def go_on(self, seconds: float, *, beats: bool) -> None:
        """Let the process run for so long; the watchdog looks each half second."""
        for _ in range(round(seconds / 0.5)):
            self.time += 0.5
            if beats:
                self.last = self.time
            self.dog.look()

    def stop(self, seconds: float) -> None:
        """Stop the process for so long: nothing in it runs, the watchdog neither."""
        self.time += seconds
        self.dog.look()


def test_a_part_without_a_round_for_a_lease_fails_and_after_another_lease_the_node_gives_up() -> None:
    stage = Stage()
    stage.go_on(LEASE, beats=True)
    stage.go_on(LEASE - 1, beats=False)
    assert (stage.dog.failures, stage.node.told) == ({}, [])
    stage.go_on(1.5, beats=False)
    assert stage.dog.why == "its beat has not finished a round for 10 s: ValueError"
    assert stage.node.told == [f"cannot work: {stage.dog.why}"]
    stage.go_on(LEASE - 1, beats=False)
    assert len(stage.node.told) == 1
    stage.go_on(1.5, beats=False)
    assert stage.node.told[1:] == ["gives up"]


def test_a_part_that_goes_on_in_time_makes_the_node_work_again() -> None:
    stage = Stage()
    stage.go_on(LEASE + 1, beats=False)
    stage.go_on(0.5, beats=True)
    assert stage.node.told[1:] == ["works again"]
    assert stage.dog.why == ""
    stage.go_on(3 * LEASE, beats=True)
    assert len(stage.node.told) == 2


def test_a_process_that_was_stopped_does_not_count_the_time() -> None:
    stage = Stage()
    stage.go_on(LEASE, beats=True)
    stage.stop(3 * LEASE)
    stage.go_on(LEASE - BEAT - 1, beats=False)
    assert stage.node.told == []
    stage.go_on(2, beats=False)
    assert [said[:11] for said in stage.node.told] == ["cannot work"]


def test_a_part_that_has_ended_fails_at_once() -> None:
    stage = Stage()
    stage.go_on(1, beats=True)
    stage.timer_ended = True
    stage.go_on(0.5, beats=True)
    assert stage.node.told == ["cannot work: its keepalive has ended", "gives up"]


def test_where_it_may_not_end_the_process_it_goes_on_saying_so() -> None:
    stage = Stage()
    stage.dog.may_end = False
    stage.timer_ended = True
    stage.go_on(5 * LEASE, beats=True)
    assert stage.node.told == ["cannot work: its keepalive has ended"]
    assert stage.dog.why == "its keepalive has ended"


def test_of_a_node_that_leaves_the_ends_of_its_parts_are_expected() -> None:
    stage = Stage()
    stage.node.leaving = stage.timer_ended = True
    stage.go_on(3 * LEASE, beats=False)
    assert stage.node.told == []


def test_the_exit_comes_at_the_earliest_moment_with_the_last_code(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[tuple[float, int]] = []
    stage = Stage()
    monkeypatch.setattr("os._exit", lambda code: ended.append((stage.time, code)))
    stage.dog.end_within(10, 1)
    stage.go_on(4, beats=True)
    stage.dog.end_within(10, 0)
    stage.go_on(5.5, beats=True)
    assert ended == []
    stage.go_on(0.5, beats=True)
    assert ended == [(1010.0, 0)]


def test_a_watchdog_that_dies_says_so_itself() -> None:
    def broken() -> bool:
        raise SystemExit

    node = Node()
    dog = Watchdog(node, [Part("writer", broken)], VALUES)
    dog.start()
    until = time.monotonic() + 10
    while not node.told and time.monotonic() < until:
        threading.Event().wait(0.01)
    assert node.told == ["cannot work: its watchdog has ended"]
    assert dog.why == "its watchdog has ended"


def test_the_time_for_which_a_part_waits_for_the_database_does_not_count() -> None:
    stage = Stage()
    stage.go_on(LEASE, beats=True)
    stage.waits = True
    stage.go_on(20 * LEASE, beats=False)
    assert (stage.dog.failures, stage.node.told) == ({}, [])
    stage.waits = False
    stage.go_on(LEASE - 1, beats=False)
    assert stage.node.told == []
    stage.go_on(1.5, beats=False)
    assert [said[:11] for said in stage.node.told] == ["cannot work"]
