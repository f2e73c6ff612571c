"""A clock that only the database's statements move, as if each of them took a fixed time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection


class StatementClock:
    """Stands for time.monotonic(). `statements` counts those that ran."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 1000.0
        self.statements = 0

    def __call__(self) -> float:
        return self.now

    def execute(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        self.statements += 1
        self.now += self.seconds
        return execute(sql, params, many, context)


@contextmanager
def statements_take(seconds: float, monkeypatch: pytest.MonkeyPatch) -> Iterator[StatementClock]:
    """Within the block, only statements of this thread's connection let time pass, and each takes so many seconds."""
    clock = StatementClock(seconds)
    with monkeypatch.context() as patch, connection.execute_wrapper(clock.execute):
        patch.setattr("time.monotonic", clock)
        yield clock
