"""The schedule of the faults, from a seed alone. Pure: the same seed gives the same schedule.

Two runs of one schedule still differ, since processes and networks have their own timing.
"""

import random
from dataclasses import dataclass
from enum import StrEnum

NODES = ("node-1", "node-2", "node-3")
BUS, DATABASE = "bus", "database"
REST_SECONDS = 8.0  # between two faults of one node or store, so that it can come back: a node starts in 2 to 4 s
FIRST_AT = 1.0


class Kind(StrEnum):
    KILL = "kill"  # SIGKILL to a node, which starts again after `seconds`
    FREEZE = "freeze"  # SIGSTOP to a node, SIGCONT after `seconds`
    DRAIN = "drain"  # SIGTERM to a node, which starts again after `seconds`
    CUT_DATABASE = "cut_database"  # one node's connections to PostgreSQL are reset, and new ones too
    HOLD_DATABASE = "hold_database"  # no packet passes between one node and PostgreSQL
    CUT_CLIENTS = "cut_clients"  # the clients' connections to one node are reset, and new ones too
    HOLD_CLIENTS = "hold_clients"  # no packet passes between one node and its clients
    BUS_RESTART = "bus_restart"  # Valkey is killed, and starts again empty
    BUS_FREEZE = "bus_freeze"  # SIGSTOP to Valkey
    DATABASE_RESTART = "database_restart"  # PostgreSQL is stopped, `hard` without a checkpoint, and starts again
    DATABASE_FREEZE = "database_freeze"  # SIGSTOP to all of PostgreSQL
    LOCK_GATE = "lock_gate"  # a transaction of another program locks one user's gates
    HALF_OPEN = "half_open"  # `count` laptops are shut: their sockets stay open, and no packet passes
    SILENCE = "silence"  # `count` pages hang: the connection stays, and the client answers no frame
    VANISH = "vanish"  # `count` connections are reset by their clients
    STAMPEDE = "stampede"  # `count` new tabs of one user at once, over all nodes
    RECOVER = "recover"  # a member of staff recovers a user
    RESET = "reset"  # a member of staff resets a user
    DOUBLE_CLICK = "double_click"  # two members of staff recover the same user, on two nodes at once
    CHECK = "check"  # a member of staff checks a user


ON_NODES = {
    Kind.KILL,
    Kind.FREEZE,
    Kind.DRAIN,
    Kind.CUT_DATABASE,
    Kind.HOLD_DATABASE,
    Kind.CUT_CLIENTS,
    Kind.HOLD_CLIENTS,
}
ON_STORES = {
    Kind.BUS_RESTART: BUS,
    Kind.BUS_FREEZE: BUS,
    Kind.DATABASE_RESTART: DATABASE,
    Kind.DATABASE_FREEZE: DATABASE,
}
ON_USERS = {Kind.LOCK_GATE, Kind.STAMPEDE, Kind.RECOVER, Kind.RESET, Kind.DOUBLE_CLICK, Kind.CHECK}
ON_TABS = {Kind.HALF_OPEN, Kind.SILENCE, Kind.VANISH}

# Kinds are dealt from a shuffled deck, so that a short run meets many kinds and a long run all; this is how often each
# kind is in the deck.
DECK = (
    [Kind.KILL, Kind.FREEZE, Kind.HALF_OPEN] * 3
    + [Kind.DRAIN, Kind.SILENCE, Kind.VANISH, Kind.STAMPEDE, Kind.RECOVER] * 2
    + list(Kind)
)

# The shortest and the longest duration of a fault in seconds. A lease is 4 s: faults of nodes fall on both sides of it.
LASTS = {
    Kind.KILL: (0.2, 7.0),
    Kind.FREEZE: (0.5, 9.0),
    Kind.DRAIN: (0.2, 4.0),
    Kind.CUT_DATABASE: (0.5, 8.0),
    Kind.HOLD_DATABASE: (0.5, 8.0),
    Kind.CUT_CLIENTS: (0.2, 5.0),
    Kind.HOLD_CLIENTS: (0.5, 8.0),
    Kind.BUS_RESTART: (0.1, 4.0),
    Kind.BUS_FREEZE: (0.5, 8.0),
    Kind.DATABASE_RESTART: (0.1, 3.0),
    Kind.DATABASE_FREEZE: (0.5, 6.0),
    Kind.LOCK_GATE: (0.5, 7.0),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """`target` is a node, a store, the number of a user, or empty; `seconds` is how long the fault lasts; `count` is
    how many tabs it hits or adds.
    """

    at: float
    kind: Kind
    target: str = ""
    seconds: float = 0.0
    count: int = 0
    hard: bool = False

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        count = f" x{self.count}" if self.count else ""
        return f"{self.at:5.1f}  {self.kind}{' hard' if self.hard else ''} {self.target}{count}{lasts}".rstrip()


@dataclass(frozen=True, slots=True)
class Plan:
    """For how many seconds new faults begin, and how many clients of how many users there are."""

    seconds: float
    clients: int
    users: int
    pause: float = 1.5
    """Seconds between the beginnings of two faults, on average."""


def schedule(seed: int, plan: Plan) -> list[Fault]:
    rng = random.Random(seed)
    busy: dict[str, float] = {}  # until when each node or store is left alone after its last fault
    faults: list[Fault] = []
    deck: list[Kind] = []
    at = FIRST_AT
    while at < plan.seconds:
        if not deck:
            deck = list(DECK)
            rng.shuffle(deck)
        fault = _dealt(deck.pop(), at, plan, busy, rng)
        if fault is not None:
            faults.append(fault)
            at = round(at + rng.uniform(0.1, 1.9) * plan.pause, 1)
    return faults


def _dealt(kind: Kind, at: float, plan: Plan, busy: dict[str, float], rng: random.Random) -> Fault | None:
    """A fault of this kind; None if each of its possible targets still has its last fault or rests after it."""
    low, high = LASTS.get(kind, (0.0, 0.0))
    lasts = round(rng.uniform(low, high), 1)
    if kind in ON_TABS:
        return Fault(at, kind, count=rng.randint(1, max(1, plan.clients // 12)))
    if kind in ON_USERS:
        count = rng.randint(12, 16) if kind is Kind.STAMPEDE else 0
        return Fault(at, kind, str(rng.randrange(plan.users)), lasts, count)
    targets = NODES if kind in ON_NODES else (ON_STORES[kind],)
    free = [target for target in targets if busy.get(target, 0.0) <= at]
    if not free:
        return None
    target = rng.choice(free)
    busy[target] = at + lasts + REST_SECONDS
    return Fault(at, kind, target, lasts, hard=kind is Kind.DATABASE_RESTART and rng.random() < 0.5)
