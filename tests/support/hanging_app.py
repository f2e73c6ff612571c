"""The applications of tests.support.misbehaving_apps, in a process of which a test can make any part hang or end.

GET `/hang/NAME/`: `loop` blocks the event loop for a minute, `keepalive` cancels the node's timer, `executor` hangs a
thread of the event loop's default executor, `free` lets all threads go on; every other name is the beginning of the
names of threads that hang at their next use of our tables.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import django

django.setup()  # for a bare server, which imports nothing of ours before this

from tests.support import hangs  # noqa: E402
from tests.support.misbehaving_apps import application as apps  # noqa: E402

BLOCKED_SECONDS = 60.0


async def application(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    if scope["type"] != "http" or not scope["path"].startswith("/hang/"):
        await apps(scope, receive, send)  # type: ignore[arg-type]  # Channels has types of its own for ASGI
        return
    await receive()
    _hang(scope["path"].split("/")[2])
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def _hang(name: str) -> None:
    loop = asyncio.get_running_loop()
    if name == "loop":
        loop.call_later(0.2, time.sleep, BLOCKED_SECONDS)  # once the answer is on its way
    elif name == "keepalive":
        [timer] = [task for task in asyncio.all_tasks() if task.get_name() == "connections-keepalive"]
        timer.cancel()
    elif name == "executor":
        loop.run_in_executor(None, threading.Event().wait)
    elif name == "free":
        hangs.free()
    else:
        hangs.hang(name)
