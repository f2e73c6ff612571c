"""The threads for the chat's database calls: a pool for messages, one for calls that found a lock, one for tools.

Channels runs all database calls of a process in one thread, where one slow search would block every message. In a pool
shared by messages and tools, a few slow searches would. In a pool shared with calls that wait for a lock, a few
messages into one locked conversation would.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextvars import copy_context
from functools import cache, partial
from itertools import chain, repeat
from typing import ParamSpec, TypeVar

from connections import database
from connections.chat import limits, thread_connection
from connections.chat.daemon_pool import DaemonPool
from connections.conf import tunables

P = ParamSpec("P")
T = TypeVar("T")

CALL_SECONDS = 4.0  # as long as an admission may take; then the client is told to send its frame again
# For another transaction's lock, in one attempt. The chat's own transactions hold theirs for a few milliseconds.
LOCK_SECONDS = 0.05
TOOL_BEAT_SECONDS = limits.TOOL_SECONDS / 1.25  # a statement may take a beat and a quarter
PAUSES = (0.1, 0.2, 0.4)  # seconds between attempts; the last one repeats
# How many threads each pool has. SQLite has one writer at a time anyway; with four, readers pass a writer that waits.
MESSAGES, LOCKED, TOOLS = ("chat-database", 4), ("chat-locked", 2), ("chat-tool", 2)


@cache
def _pool(name: str, threads: int) -> DaemonPool:
    """The pool of this name, made at its first call: a server may fork after its imports."""
    return DaemonPool(name, threads)


async def in_database(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a synchronous function that uses the ORM. Raises what it raises, Busy if another transaction's lock stood in
    the way for CALL_SECONDS, and TimeoutError after CALL_SECONDS; the function may still complete after that.

    The function runs again after it met a lock or a lost connection, so it must bear to run twice.
    """
    once, pool, pauses = partial(function, *args, **kwargs), MESSAGES, _pauses()
    busy: database.Busy | None = None
    try:
        async with asyncio.timeout(CALL_SECONDS):
            while True:
                try:
                    return await _in_thread(pool, once, tunables().beat_seconds, LOCK_SECONDS)
                except database.Busy as error:
                    busy, pool = error, LOCKED
                await asyncio.sleep(next(pauses))
    except TimeoutError:
        if busy is None:
            raise
        raise busy from None


def _pauses() -> Iterator[float]:
    """Seconds between attempts, with jitter so that callers who met the same lock do not meet again."""
    for pause in chain(PAUSES, repeat(PAUSES[-1])):
        yield pause * random.uniform(0.8, 1.2)


async def in_tool_thread(seconds: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a tool in the pool for tools, with its own time limit. The server ends a statement after TOOL_SECONDS."""
    async with asyncio.timeout(seconds):
        return await _in_thread(TOOLS, partial(function, *args, **kwargs), TOOL_BEAT_SECONDS, limits.TOOL_SECONDS)


async def _in_thread(pool: tuple[str, int], function: Callable[[], T], beat_seconds: float, lock_seconds: float) -> T:
    call = partial(copy_context().run, thread_connection.call, function, beat_seconds, lock_seconds)
    return await asyncio.get_running_loop().run_in_executor(_pool(*pool), call)
