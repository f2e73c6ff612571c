"""What will be done to the cluster and when, from a seed alone. Pure: the same seed gives the same schedule.

What the cluster makes of it is never twice the same: processes and networks have their own time.
"""

import random
from dataclasses import dataclass
from enum import StrEnum

NODES = ("node-1", "node-2", "node-3")
BUS, DATABASE = "bus", "database"
REST_SECONDS = 8.0  # what was hurt is left alone for so long after, to come back: a node takes two to four to start
FIRST_AT = 1.0


class Kind(StrEnum):
    KILL = "kill"  # SIGKILL to a node, which starts again after `seconds`
    FREEZE = "freeze"  # SIGSTOP to a node, SIGCONT after `seconds`
    DRAIN = "drain"  # SIGTERM to a node, which starts again after `seconds`
    CUT_DATABASE = "cut_database"  # one node's connections to PostgreSQL are reset, and new ones too
    HOLD_DATABASE = "hold_database"  # one node's packets to PostgreSQL don't arrive, nor come any
    CUT_CLIENTS = "cut_clients"  # the clients' connections to one node are reset, and new ones too
    HOLD_CLIENTS = "hold_clients"  # their packets don't arrive, nor come any
    BUS_RESTART = "bus_restart"  # Valkey is killed, and starts again empty
    BUS_FREEZE = "bus_freeze"
    DATABASE_RESTART = "database_restart"  # PostgreSQL is stopped, `hard` without a checkpoint, and starts again
    DATABASE_FREEZE = "database_freeze"  # SIGSTOP to all of PostgreSQL
    LOCK_GATE = "lock_gate"  # a stranger holds the lock of one user's gates
    HALF_OPEN = "half_open"  # `count` laptops are shut: their sockets stay, and nothing comes or goes
    SILENCE = "silence"  # `count` pages hang: the connection lives, and no frame is answered
    VANISH = "vanish"  # `count` connections are reset by their clients
    STAMPEDE = "stampede"  # `count` new tabs of one user at once, over all nodes
    RECOVER = "recover"  # staff clicks; so do the next three
    RESET = "reset"
    DOUBLE_CLICK = "double_click"  # two of staff recover the same user, on two nodes at once
    CHECK = "check"


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

# How often each is in the deck that is shuffled and dealt, so that a short run meets many kinds and a long one all.
DECK = (
    [Kind.KILL, Kind.FREEZE, Kind.HALF_OPEN] * 3
    + [Kind.DRAIN, Kind.SILENCE, Kind.VANISH, Kind.STAMPEDE, Kind.RECOVER] * 2
    + list(Kind)
)

# Seconds that a fault lasts, least and most. A lease is 4 s: node faults fall on both sides of it.
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
    """`target` is a node, a store, the number of a user, or empty; `seconds` how long it lasts, `count` how many."""

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
    """How long faults begin, in seconds, and for how many clients of how many users."""

    seconds: float
    clients: int
    users: int
    pause: float = 1.5
    """Seconds between the beginnings of two faults, on average."""


def schedule(seed: int, plan: Plan) -> list[Fault]:
    rng = random.Random(seed)
    busy: dict[str, float] = {}  # until when a node or a store has enough to do with its last fault
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
    """A fault of this kind; None if all that it could hurt is hurt already."""
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
