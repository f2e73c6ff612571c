"""Garbage collection in a server that holds thousands of sockets.

A full cyclic collection visits every live object: at 5,000 sockets it stops the process for 0.5 to 0.7 s, and closes
that are due in that time come late. Objects of sockets live long, so they are frozen, which takes them out of every
collection (12 to 31 ms then). A thaw frees frozen objects that became garbage, once enough sockets have ended to be
worth the stop. Only `serve` does this: in another server's process the collector is not ours to tune.
"""

import asyncio
import gc
import logging
import time

from connections.websocket.registry import Registry

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
FREEZE_SOCKETS = 200  # that many new sockets hold about 2 MB, which an ordinary collection visits in 10 ms
THAW_SOCKETS = 5000  # ended since the last thaw


class Freezer:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._frozen_at = 0  # sockets ever opened, when last frozen
        self._thawed_at = 0  # sockets ever ended, when last thawed

    def look(self) -> None:
        opened = self._registry.opened
        ended = opened - len(self._registry)
        if ended - self._thawed_at >= THAW_SOCKETS:
            self._thawed_at = ended
            began = time.monotonic()
            gc.unfreeze()
            freed = gc.collect()
            self._freeze(opened)
            logger.info("gc_thawed", extra={"freed": freed, "seconds": round(time.monotonic() - began, 3)})
        elif opened - self._frozen_at >= FREEZE_SOCKETS:
            gc.collect(1)  # free today's garbage now, or it is kept until the thaw
            self._freeze(opened)

    def _freeze(self, opened: int) -> None:
        gc.freeze()
        self._frozen_at = opened


async def tend(registry: Registry) -> None:
    """Freeze what imports have left, then look once a second, until cancelled."""
    gc.collect()
    gc.freeze()
    freezer = Freezer(registry)
    while True:
        freezer.look()
        await asyncio.sleep(LOOK_SECONDS)
