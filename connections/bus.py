"""The channel layer, used only as a doorbell between nodes. One subscription a node; every call has a time-out.

A lost bell, or a channel layer that does not answer, costs latency and nothing else: what the bell announces is in a
row, and the next beat reads it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from uuid import UUID

from asgiref.sync import async_to_sync
from channels.layers import InMemoryChannelLayer, get_channel_layer

from connections import metrics

logger = logging.getLogger(__name__)

CALL_SECONDS = 2.0  # for one call of the layer: a beat, after which the row is read anyway
EVERYBODY = "connections.bells"  # the group of all nodes
WORK = "work"  # the topic of whatever stands in a row
SESSIONS = "sessions"  # the topic of a log-out: {user}
JOIN_SECONDS = 5.0  # between two joins: so long a node that the layer forgot misses the bells to all
LISTEN_SECONDS = 30.0
MIN_BACKOFF, MAX_BACKOFF = 0.1, 5.0  # seconds
RINGING = 1000  # bells on their way to a slow layer; more are dropped

Ring = Callable[[dict[str, Any]], None]


class Bus:
    """The bells of one node. Use it on the event loop."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Ring]] = {}
        self._task: asyncio.Task[None] | None = None
        self._ringing: set[asyncio.Task[None]] = set()
        self._name = ""
        self.connected = False
        self.failures = 0

    def subscribe(self, topic: str, callback: Ring) -> None:
        self._listeners.setdefault(topic, []).append(callback)

    @property
    def died(self) -> bool:
        """Whether the task that listens has ended by itself."""
        return self._task is not None and self._task.done() and not self._task.cancelled()

    def start(self, node_id: UUID) -> None:
        self._name = _channel(node_id)
        self._task = asyncio.get_running_loop().create_task(self._run(), name="connections-bus")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def restart(self, node_id: UUID) -> None:
        """Listen under the node's new identity."""
        await self.stop()
        self.start(node_id)

    def ring(self, node_id: UUID | None, topic: str, data: dict[str, Any] | None = None) -> None:
        """Ring one node, or with None all of them. Best effort; returns at once."""
        if len(self._ringing) >= RINGING:
            return
        task = asyncio.get_running_loop().create_task(self._ring(node_id, topic, data or {}))
        self._ringing.add(task)
        task.add_done_callback(self._ringing.discard)

    async def _ring(self, node_id: UUID | None, topic: str, data: dict[str, Any]) -> None:
        try:
            await send_bell(node_id, topic, data)
        except Exception as error:  # noqa: BLE001 - a layer raises whatever its library does, and a bell may be lost
            self._note_failure("ring", error)

    async def _run(self) -> None:
        await asyncio.gather(self._repeat("join", self._join), self._repeat("listen", self._listen))

    async def _repeat(self, name: str, call: Callable[[], Awaitable[None]]) -> None:
        backoff = MIN_BACKOFF
        while True:
            try:
                await call()
                backoff = MIN_BACKOFF
            except Exception as error:  # noqa: BLE001 - a layer raises whatever its library does; try again
                self.connected = False
                self._note_failure(name, error)
                await asyncio.sleep(backoff)
                backoff = min(MAX_BACKOFF, backoff * 2)

    async def _join(self) -> None:
        """Join the group of all nodes, again and again: membership expires, and a restarted server has none."""
        layer = get_channel_layer()
        if layer is not None:
            async with asyncio.timeout(CALL_SECONDS):
                await layer.group_add(EVERYBODY, self._name)
            self.connected = True
        await asyncio.sleep(JOIN_SECONDS)

    async def _listen(self) -> None:
        layer = get_channel_layer()
        if layer is None:
            await asyncio.sleep(JOIN_SECONDS)
            return
        with contextlib.suppress(TimeoutError):  # an idle layer, or one whose server died silently
            async with asyncio.timeout(LISTEN_SECONDS):
                self._dispatch(await layer.receive(self._name))

    def _dispatch(self, message: dict[str, Any]) -> None:
        for callback in self._listeners.get(str(message.get("topic", "")), ()):
            try:
                callback(message.get("data") or {})
            except Exception:  # an error of one listener must not keep the bell from the others
                logger.exception("bell_failed", extra={"topic": message.get("topic")})

    def _note_failure(self, call: str, error: Exception) -> None:
        self.failures += 1
        metrics.bus_trouble.labels(call).inc()
        if self.failures == 1 or self.failures % 100 == 0:
            logger.warning("bus_failed", extra={"call": call, "error": repr(error), "failures": self.failures})


def _channel(node_id: UUID) -> str:
    return f"connections.node.{node_id}"


async def send_bell(node_id: UUID | None, topic: str, data: dict[str, Any]) -> None:
    """Send one bell to one node, or with None to all. Raises what the layer raises, and TimeoutError."""
    layer = get_channel_layer()
    if layer is None:
        return
    message = {"type": "bell", "topic": topic, "data": data}
    async with asyncio.timeout(CALL_SECONDS):
        if node_id is None:
            await layer.group_send(EVERYBODY, message)
        else:
            await layer.send(_channel(node_id), message)


# Ringing from any thread of any process


class Ringer(Protocol):
    """The doorbell of this process's node."""

    def ring(self, node_ids: set[UUID] | None = None) -> None: ...
    def logged_out(self, user_id: Any) -> None: ...


_ringer: Ringer | None = None


def ring_through(ringer: Ringer) -> None:
    """From now on, ring through the node that this process has become."""
    global _ringer  # noqa: PLW0603 - a process is one node
    _ringer = ringer


def ring(node_ids: set[UUID] | None = None) -> None:
    """Tell these nodes, or all, that there is something in their rows. Best effort: each reads them on its beat."""
    if _ringer is not None:
        _ringer.ring(node_ids)
    elif _layer_reaches_other_processes():
        async_to_sync(_ring_once)(node_ids, WORK, {})


def logged_out(user_id: Any) -> None:
    """Have all nodes check the user's sessions now. Best effort: each checks all sessions when it reconciles."""
    if _ringer is not None:
        _ringer.logged_out(user_id)
    elif _layer_reaches_other_processes():
        async_to_sync(_ring_once)(None, SESSIONS, {"user": str(user_id)})


async def _ring_once(node_ids: set[UUID] | None, topic: str, data: dict[str, Any]) -> None:
    """Ring from a process that is no node: a command, or a server of pages only."""
    try:
        for node_id in [None] if node_ids is None else list(node_ids):
            await send_bell(node_id, topic, data)
    except Exception as error:  # noqa: BLE001 - a layer raises whatever its library does, and a bell may be lost
        logger.warning("bus_failed", extra={"call": "ring", "error": repr(error)})


def _layer_reaches_other_processes() -> bool:
    return not isinstance(get_channel_layer(), InMemoryChannelLayer | None)
