"""What both servers share: this process owns the signals, and drains before the server may end anything."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable

from connections.node.runtime import NodeRuntime
from connections.server import gc_freeze

logger = logging.getLogger(__name__)

MAX_FRAME_BYTES = 1024 * 1024  # above it the server itself may cut; the chat's own bound is 64 KiB
FINISH_SECONDS = 1.5  # for HTTP responses under way, after the drain

Ready = Callable[[NodeRuntime], Awaitable[None]]


async def wait_for_stop(node: NodeRuntime) -> None:
    """Return at SIGTERM, at SIGINT, or when somebody asks for a drain in the node's row."""
    loop = asyncio.get_running_loop()
    signalled = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled.set)
    waiting = [asyncio.create_task(signalled.wait()), asyncio.create_task(node.drain_wanted.wait())]
    freezing = asyncio.create_task(gc_freeze.tend(node.registry), name="connections-garbage")
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in (*waiting, freezing):
        task.cancel()
    logger.info("node_draining", extra={"node": node.name, "managers": len(node.registry)})
