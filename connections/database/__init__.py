"""A slow, frozen, locked or moved database. Code here may touch connections and threads, no models."""

from connections.database.connection import (
    AWAY,
    Busy,
    atomic,
    current,
    idle,
    is_busy,
    is_sqlite,
    now,
    on_commit,
    own_connection,
    round_of,
    throw_away,
    use_wal,
)

__all__ = [
    "AWAY",
    "Busy",
    "atomic",
    "current",
    "idle",
    "is_busy",
    "is_sqlite",
    "now",
    "on_commit",
    "own_connection",
    "round_of",
    "throw_away",
    "use_wal",
]
