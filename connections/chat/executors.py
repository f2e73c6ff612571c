"""The threads for the chat's database calls: one pool for messages, another for the agent's tools.

Channels runs all database calls of a process in one thread, where one slow search would block every message. In a pool
shared by messages and tools, a few slow searches would.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from channels.db import database_sync_to_async

P = ParamSpec("P")
T = TypeVar("T")

CALL_SECONDS = 8.0  # twice the wait for a connection; needed since a frozen database never answers
# SQLite has one writer at a time anyway; with four threads, readers pass a writer that waits.
_messages = ThreadPoolExecutor(max_workers=4, thread_name_prefix="chat-database")
_tools = ThreadPoolExecutor(max_workers=2, thread_name_prefix="chat-tool")


async def in_database(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a synchronous function that uses the ORM. Raises what it raises, and TimeoutError after CALL_SECONDS; the
    function may still complete after that.
    """
    call = database_sync_to_async(function, thread_sensitive=False, executor=_messages)
    async with asyncio.timeout(CALL_SECONDS):
        return await call(*args, **kwargs)


async def in_tool_thread(seconds: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a tool in the pool for tools, like `in_database`, but with its own time limit."""
    call = database_sync_to_async(function, thread_sensitive=False, executor=_tools)
    async with asyncio.timeout(seconds):
        return await call(*args, **kwargs)
