"""The threads for the chat's database calls: one pool for messages, another for the agent's tools.

Channels runs all database calls of a process in one thread, where one slow search would block every message. In a pool
shared by messages and tools, a few slow searches would.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import cache
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from channels.db import database_sync_to_async

P = ParamSpec("P")
T = TypeVar("T")

CALL_SECONDS = 8.0  # twice the wait for a connection; needed since a frozen database never answers


class DaemonPool(Executor):
    """Threads that end with the process. Python waits for those of a ThreadPoolExecutor, also if one hangs."""

    def __init__(self, name: str, threads: int) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        for number in range(threads):
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True).start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        future: Future[T] = Future()
        self._calls.put((future, lambda: fn(*args, **kwargs)))
        return future

    def _run(self) -> None:
        while True:
            future, call = self._calls.get()
            if future.set_running_or_notify_cancel():
                _settle(future, call)
            del future, call  # else an idle thread would keep the last call's objects


def _settle(future: "Future[Any]", call: Callable[[], Any]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - it is the caller's, as in a ThreadPoolExecutor
        future.set_exception(error)
    else:
        future.set_result(result)


@cache
def _pool(name: str, threads: int) -> Any:  # Any: asgiref's types ask for a ThreadPoolExecutor
    """The pool of this name, made at its first call: a server may fork after its imports."""
    return DaemonPool(name, threads)


async def in_database(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a synchronous function that uses the ORM. Raises what it raises, and TimeoutError after CALL_SECONDS; the
    function may still complete after that.
    """
    # SQLite has one writer at a time anyway; with four threads, readers pass a writer that waits.
    call = database_sync_to_async(function, thread_sensitive=False, executor=_pool("chat-database", 4))
    async with asyncio.timeout(CALL_SECONDS):
        return await call(*args, **kwargs)


async def in_tool_thread(seconds: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a tool in the pool for tools, like `in_database`, but with its own time limit."""
    call = database_sync_to_async(function, thread_sensitive=False, executor=_pool("chat-tool", 2))
    async with asyncio.timeout(seconds):
        return await call(*args, **kwargs)
