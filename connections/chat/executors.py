"""Where the chat's database calls run: a few threads of its own, and other ones for the agent's tools.

All Channels database calls of a process share one thread, so one slow search would hold up every message; and with
tools in the same threads as messages, a few slow searches would.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from channels.db import database_sync_to_async

P = ParamSpec("P")
T = TypeVar("T")

CALL_SECONDS = 8.0  # twice what a call waits for a connection; a database that has frozen never answers
# SQLite writes one at a time whatever we do; four lets readers pass a writer that waits.
_messages = ThreadPoolExecutor(max_workers=4, thread_name_prefix="chat-database")
_tools = ThreadPoolExecutor(max_workers=2, thread_name_prefix="chat-tool")


async def in_database(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a synchronous function that uses the ORM. Raises what it raises, and TimeoutError when it takes too long:
    then it may still be done, later.
    """
    call = database_sync_to_async(function, thread_sensitive=False, executor=_messages)
    async with asyncio.timeout(CALL_SECONDS):
        return await call(*args, **kwargs)


async def in_tool_thread(seconds: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same for a tool, which has so long."""
    call = database_sync_to_async(function, thread_sensitive=False, executor=_tools)
    async with asyncio.timeout(seconds):
        return await call(*args, **kwargs)
