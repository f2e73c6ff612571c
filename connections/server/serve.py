"""What both servers share: this process owns the signals, and drains before the server may end anything."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable

from django.core.management.base import CommandError

from connections.node.runtime import NodeRuntime
from connections.node.watchdog import END_SECONDS
from connections.server import gc_freeze

logger = logging.getLogger(__name__)

MAX_FRAME_BYTES = 1024 * 1024  # above it the server itself may cut; the chat's own bound is 64 KiB
FINISH_SECONDS = 1.5  # for HTTP responses under way, after the drain
EXIT_SECONDS = 9.7  # from a signal to the end of the process, whatever hangs: 10 s are promised
UNDRAINED = 1  # the exit code of a process that was ended before its drain was

Ready = Callable[[NodeRuntime], Awaitable[None]]


async def wait_for_stop(node: NodeRuntime) -> None:
    """Return at SIGTERM, at SIGINT, when somebody asks for a drain in the node's row, or when the node can't work.

    From then on the process ends in time, whatever hangs in it.
    """
    loop = asyncio.get_running_loop()
    signalled = asyncio.Event()

    def bound_the_end(*_: object) -> None:
        if not node.watchdog.ending:
            node.watchdog.end_within(EXIT_SECONDS, UNDRAINED)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled.set)
        # The loop still learns of it, through its wakeup descriptor. This handler runs even while the loop is blocked.
        signal.signal(number, bound_the_end)
    node.watchdog.may_end = True
    events = (signalled, node.drain_wanted, node.gave_up)
    waiting = [asyncio.create_task(event.wait()) for event in events]
    freezing = asyncio.create_task(gc_freeze.tend(node.registry), name="connections-garbage")
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in (*waiting, freezing):
        task.cancel()
    node.watchdog.end_within(EXIT_SECONDS, UNDRAINED)
    logger.info("node_draining", extra={"node": node.name, "managers": len(node.registry), "why": node.why})


async def drain(node: NodeRuntime) -> None:
    """Drain the node; then only HTTP responses under way are waited for, and no thread."""
    if node.gave_up.is_set():
        await node.drain(END_SECONDS - 1)
    else:
        await node.drain()
    node.watchdog.end_within(FINISH_SECONDS + 1, 1 if node.gave_up.is_set() else 0)


def refuse_success(node: NodeRuntime) -> None:
    """Raise CommandError if the process ends because its node could not work: its supervisor starts it anew."""
    if node.gave_up.is_set():
        raise CommandError(f"Node {node.name} could not work, and has ended: {node.parts.identity.failing}.")
