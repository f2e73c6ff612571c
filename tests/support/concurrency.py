"""Run several functions at the same moment, each in a thread with a database connection of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connection


def run_concurrently(*functions: Callable[[], Any]) -> list[Any]:
    """Start all functions at once, and return their results in order or raise the first exception among them."""
    start = threading.Barrier(len(functions))

    def call(function: Callable[[], Any]) -> Any:
        start.wait(10)
        try:
            return function()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(call, functions))
