"""Which threads of this process hang for now. As a router of Django's it holds them where they ask for our database."""

import threading
from typing import Any

from django.db import connections

_hung: dict[str, threading.Event] = {}


def hang(thread: str) -> None:
    """From now on, have threads whose names begin so hang at their next use of our tables.

    They hang before a transaction, not within one: on SQLite its write lock would keep out all other processes.
    """
    _hung[thread] = threading.Event()


def free() -> None:
    """Let every hung thread go on."""
    while _hung:
        _hung.popitem()[1].set()


class Router:
    """For DATABASE_ROUTERS. It chooses no database."""

    def db_for_write(self, model: Any, **hints: Any) -> None:
        name = threading.current_thread().name
        for begin, event in list(_hung.items()):
            if name.startswith(begin) and not connections["default"].in_atomic_block:
                event.wait()
