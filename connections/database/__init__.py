"""A slow, frozen, locked or moved database. Code here may touch connections and threads, no models."""

from connections.database.connection import atomic, current, is_sqlite, leave_standby, now, on_commit, use_wal
from connections.database.errors import AWAY, Busy, is_away, is_busy
from connections.database.own import idle, own_connection, round_of, throw_away
from connections.database.waiting import waits

__all__ = [
    "AWAY",
    "Busy",
    "atomic",
    "current",
    "idle",
    "is_away",
    "is_busy",
    "is_sqlite",
    "leave_standby",
    "now",
    "on_commit",
    "own_connection",
    "round_of",
    "throw_away",
    "use_wal",
    "waits",
]
