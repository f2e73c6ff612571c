"""What a scenario is, and what was noticed when it was played."""

import math
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from tests.outages.clients import Attempt
from tests.outages.rig import Rig, postgres_rig

Fault = Callable[[Rig], AbstractAsyncContextManager[None]]
MakeRig = Callable[[Path], AbstractContextManager[Rig]]


@dataclass(frozen=True)
class Scenario:
    """`fault` does the fault, and undoes it at the end of its block."""

    name: str
    what: str
    fault: Fault
    rig: MakeRig = postgres_rig
    """What it is played on; it may raise `rig.Unable`."""
    spares_others: bool = False
    """Users whose rows the fault does not touch notice nothing: their handshakes are as quick as ever."""
    away: bool = False
    """Nothing can be written: /readyz says so after a lease at the latest."""
    takes_leases: bool = False
    """The fault makes every renewal impossible, so leases may lapse (and nobody may be fenced for it)."""
    touched_leave: bool = False
    """The tabs of the touched user close while the fault goes on, so that their endings wait."""
    one_node_busy: bool = False
    """Everybody comes to the first node; on the other nothing happens, so that it could fence the first."""
    loses_commits: bool = False
    """A failover to a standby may lose the last commits, and rows come back only with the full comparison."""
    seconds: tuple[float, ...] = (1, 10)
    """How long `make outages` makes it last."""
    insistent: int = 0
    """Clients that try again at least once a second; `make outages` may have more of them."""


@dataclass
class Notice:
    """What was noticed. Times in seconds; moments are of time.time()."""

    scenario: Scenario
    seconds: float
    began: float = 0.0
    ended: float = 0.0
    normal: list[Attempt] = field(default_factory=list)
    others: list[Attempt] = field(default_factory=list)
    touched: list[Attempt] = field(default_factory=list)
    insistent: list[Attempt] = field(default_factory=list)
    living: int = 0
    closed: Counter[str] = field(default_factory=Counter)
    longest_wait: float = 0.0
    fenced: list[str] = field(default_factory=list)
    lost_leases: list[str] = field(default_factory=list)
    ended_nodes: list[str] = field(default_factory=list)
    unready: dict[str, tuple[float, str]] = field(default_factory=dict)
    """For each node that said 503: how long after the beginning, and why."""
    backlog: int = 0
    lag: float = 0.0
    crowding: float = 1.0
    """Processes that wanted a core of this machine, for each core; at least 1."""
    first_admission: float | None = None
    ready_again: float | None = None
    agreed: float | None = None
    """From the fault's end: until a newcomer was admitted, all nodes were ready, and records were the sockets."""
    leaked: int = 0
    dishonest: list[str] = field(default_factory=list)
    """Nodes that said they were ready in the lease before the fault's end, and refused every newcomer in it."""

    @property
    def newcomers(self) -> list[Attempt]:
        return [*self.others, *self.touched, *self.insistent]


def percentile(attempts: list[Attempt], share: float) -> float:
    """The nearest-rank percentile of how long the handshakes took; 0 without any."""
    times = sorted(attempt.seconds for attempt in attempts)
    return times[max(0, math.ceil(share * len(times)) - 1)] if times else 0.0


def slow(attempts: list[Attempt]) -> float:
    """The 99th percentile, but never the one slowest: of thirty handshakes, that says more about the machine."""
    times = sorted(attempts, key=lambda attempt: attempt.seconds)
    return percentile(times, 0.99) if len(times) > 100 else percentile(times[:-1], 1.0)
