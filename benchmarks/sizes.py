"""How much each benchmark does, and for how long. Times are in seconds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    users: int
    """Each has a session. Sockets are spread over the users, at most 20 to a user."""
    rounds: int
    """How often each variant is measured, in turn: A B A B."""
    window: float
    """How long one round of handshakes or echoes is measured, after `warmup`."""
    warmup: float
    concurrency: int
    """Handshakes, or echoes, in flight at once."""
    memory_rounds: int
    memory_sockets: int
    settle: float
    """Pause between the last handshake and a measurement of idle sockets."""
    few_sockets: int
    many_sockets: int
    """Idle sockets of the two nodes whose statements are counted."""
    statements_window: float
    """How long PostgreSQL counts statements."""
    kicks: int
    """For each action and case."""
    no_bus_concurrency: int
    """Kicks in flight at once where nodes have no bus: each kick waits for a beat."""
    idle_sockets: int
    """Open sockets on each node while kicks are timed."""


FULL = Sizes(
    users=500,
    rounds=7,
    window=3,
    warmup=0.5,
    concurrency=32,
    memory_rounds=3,
    memory_sockets=1000,
    settle=5,
    few_sockets=100,
    many_sockets=5000,
    statements_window=60,  # two reconciles, thirty beats, a dozen sweeps
    kicks=200,
    no_bus_concurrency=10,
    idle_sockets=500,
)
# Enough to check that every benchmark runs; the figures mean nothing.
TINY = Sizes(
    users=10,
    rounds=1,
    window=0.3,
    warmup=0.1,
    concurrency=4,
    memory_rounds=1,
    memory_sockets=20,
    settle=0.2,
    few_sockets=5,
    many_sockets=20,
    statements_window=2.5,  # more than a beat
    kicks=1,
    no_bus_concurrency=1,
    idle_sockets=5,
)
