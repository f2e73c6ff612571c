"""How much of everything a run does, and for how long at most. Times in seconds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    users: int
    """Each with a session. Sockets are spread over them, at most 20 to a user."""
    rounds: int
    """Of each side, in turn: A B A B."""
    window: float
    """Of one round of handshakes or echoes, after `warm`."""
    warm: float
    lanes: int
    """Handshakes, or echoes, that are under way at once."""
    memory_rounds: int
    memory_sockets: int
    settle: float
    """Between the last handshake and a measurement of what is idle."""
    few: int
    many: int
    """Idle sockets of the two nodes whose statements are counted."""
    statements: float
    kicks: int
    """For each action and place."""
    away_lanes: int
    """Kicks under way at once while the bus is away: each waits for a beat."""
    beside: int
    """Idle sockets on each node while kicks are timed."""


FULL = Sizes(
    users=500,
    rounds=7,
    window=3,
    warm=0.5,
    lanes=32,
    memory_rounds=3,
    memory_sockets=1000,
    settle=5,
    few=100,
    many=5000,
    statements=60,  # two reconciles, thirty beats, a dozen sweeps
    kicks=200,
    away_lanes=10,
    beside=500,
)
# Enough to see that all of it runs; its figures mean nothing.
TINY = Sizes(
    users=10,
    rounds=1,
    window=0.3,
    warm=0.1,
    lanes=4,
    memory_rounds=1,
    memory_sockets=20,
    settle=0.2,
    few=5,
    many=20,
    statements=2.5,  # more than a beat
    kicks=1,
    away_lanes=1,
    beside=5,
)
