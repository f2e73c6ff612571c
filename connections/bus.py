"""The channel layer, used only as a doorbell. One subscription a node; no call without a timeout.

A bell that is lost, or a layer that is away, costs latency and nothing else: whatever it would have hurried is in a
row, and the next beat reads it.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

from channels.layers import get_channel_layer

logger = logging.getLogger(__name__)

CALL_SECONDS = 2.0  # a doorbell that takes longer is no use: the beat comes first
EVERYBODY = "connections.bells"
WORK = "work"  # the topic for everything that stands in a row
EXPIRY_MARGIN = 0.5  # group membership expires after a day by default: join again at half of it

Ring = Callable[[dict[str, Any]], None]


class Bus:
    """The bells of one node. `subscribe` and `run` on the event loop; `ring` there too."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Ring]] = {}
        self._task: asyncio.Task[None] | None = None
        self._ringing: set[asyncio.Task[None]] = set()
        self._name = ""
        self.connected = False
        self.failures = 0

    def subscribe(self, topic: str, callback: Ring) -> None:
        self._listeners.setdefault(topic, []).append(callback)

    def start(self, node_id: UUID) -> None:
        self._name = _channel(node_id)
        self._task = asyncio.get_running_loop().create_task(self._run(), name="connections-bus")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def ring(self, node_id: UUID | None, topic: str, data: dict[str, Any] | None = None) -> None:
        """Ring one node, or with None all of them. Best effort; returns at once."""
        task = asyncio.get_running_loop().create_task(self._ring(node_id, topic, data or {}))
        self._ringing.add(task)
        task.add_done_callback(self._ringing.discard)

    async def _ring(self, node_id: UUID | None, topic: str, data: dict[str, Any]) -> None:
        try:
            await send_bell(node_id, topic, data)
        except Exception as error:  # noqa: BLE001 - whatever the layer's library raises, it is only a bell
            self._trouble("ring", error)

    async def _run(self) -> None:
        backoff = 0.1
        while True:
            try:
                await self._listen()
                backoff = 0.1
            except Exception as error:  # noqa: BLE001 - whatever the layer's library raises: join again
                self._trouble("listen", error)
            self.connected = False
            await asyncio.sleep(backoff)
            backoff = min(5.0, backoff * 2)

    async def _listen(self) -> None:
        """Join, then take bells until the membership should be renewed."""
        layer = get_channel_layer()
        if layer is None:
            await asyncio.sleep(60)
            return
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CALL_SECONDS):
            await layer.group_add(EVERYBODY, self._name)
        self.connected = True
        until = loop.time() + min(60.0, float(getattr(layer, "group_expiry", 86_400)) * EXPIRY_MARGIN)
        while (left := until - loop.time()) > 0:
            try:
                async with asyncio.timeout(left):
                    message = await layer.receive(self._name)
            except TimeoutError:
                return
            self._heard(message)

    def _heard(self, message: dict[str, Any]) -> None:
        for callback in self._listeners.get(str(message.get("topic", "")), ()):
            try:
                callback(message.get("data") or {})
            except Exception:
                logger.exception("bell_failed", extra={"topic": message.get("topic")})

    def _trouble(self, what: str, error: Exception) -> None:
        self.failures += 1
        if self.failures == 1 or self.failures % 100 == 0:
            logger.warning("bus_away", extra={"call": what, "error": repr(error), "failures": self.failures})


def _channel(node_id: UUID) -> str:
    return f"connections.node.{node_id}"


async def send_bell(node_id: UUID | None, topic: str, data: dict[str, Any]) -> None:
    """One bell to one node, or to all. Raises what the layer raises, and TimeoutError."""
    layer = get_channel_layer()
    if layer is None:
        return
    message = {"type": "bell", "topic": topic, "data": data}
    async with asyncio.timeout(CALL_SECONDS):
        if node_id is None:
            await layer.group_send(EVERYBODY, message)
        else:
            await layer.send(_channel(node_id), message)


async def ring_once(node_ids: set[UUID] | None) -> None:
    """Ring from a process that is no node: a command."""
    try:
        for node_id in [None] if node_ids is None else list(node_ids):
            await send_bell(node_id, WORK, {})
    except Exception as error:  # noqa: BLE001 - whatever the layer's library raises, it is only a bell
        logger.warning("bus_away", extra={"call": "ring", "error": repr(error)})


bus = Bus()
