"""The channel layer, used only as a doorbell. One subscription a node; no call without a timeout.

A bell that is lost, or a layer that is away, costs latency and nothing else: whatever it would have hurried is in a
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

CALL_SECONDS = 2.0  # a doorbell that takes longer is no use: the beat comes first
EVERYBODY = "connections.bells"
WORK = "work"  # the topic for everything that stands in a row
SESSIONS = "sessions"  # a user has logged out somewhere: {user}
JOIN_SECONDS = 5.0  # a member that was forgotten misses the bells to all for that long
LISTEN_SECONDS = 30.0
MIN_BACKOFF, MAX_BACKOFF = 0.1, 5.0  # seconds
RINGING = 1000  # bells under way to a layer that takes its time; more are dropped

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

    async def restart(self, node_id: UUID) -> None:
        """For a node that has a new identity."""
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
        except Exception as error:  # noqa: BLE001 - whatever the layer's library raises, it is only a bell
            self._trouble("ring", error)

    async def _run(self) -> None:
        await asyncio.gather(self._forever("join", self._join), self._forever("listen", self._listen))

    async def _forever(self, what: str, call: Callable[[], Awaitable[None]]) -> None:
        backoff = MIN_BACKOFF
        while True:
            try:
                await call()
                backoff = MIN_BACKOFF
            except Exception as error:  # noqa: BLE001 - whatever the layer's library raises: again
                self.connected = False
                self._trouble(what, error)
                await asyncio.sleep(backoff)
                backoff = min(MAX_BACKOFF, backoff * 2)

    async def _join(self) -> None:
        """Membership expires, and a server that was restarted has forgotten it: joined again and again."""
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
        with contextlib.suppress(TimeoutError):  # an idle layer, or one that has died without a word
            async with asyncio.timeout(LISTEN_SECONDS):
                self._heard(await layer.receive(self._name))

    def _heard(self, message: dict[str, Any]) -> None:
        for callback in self._listeners.get(str(message.get("topic", "")), ()):
            try:
                callback(message.get("data") or {})
            except Exception:
                logger.exception("bell_failed", extra={"topic": message.get("topic")})

    def _trouble(self, what: str, error: Exception) -> None:
        self.failures += 1
        metrics.bus_trouble.labels(what).inc()
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


async def ring_once(node_ids: set[UUID] | None, topic: str = WORK, data: dict[str, Any] | None = None) -> None:
    """Ring from a process that is no node: a command, or a server of pages only."""
    try:
        for node_id in [None] if node_ids is None else list(node_ids):
            await send_bell(node_id, topic, data or {})
    except Exception as error:  # noqa: BLE001 - whatever the layer's library raises, it is only a bell
        logger.warning("bus_away", extra={"call": "ring", "error": repr(error)})


class Ringer(Protocol):
    """A node, as this module uses it."""

    def ring(self, node_ids: set[UUID] | None = None) -> None: ...
    def logged_out(self, user_id: Any) -> None: ...


_ringer: Ringer | None = None


def use(ringer: Ringer) -> None:
    """This process has become a node, and rings through it."""
    global _ringer  # noqa: PLW0603 - a process is one node
    _ringer = ringer


def ring(node_ids: set[UUID] | None = None) -> None:
    """Ring these nodes, or all. Best effort: the next beat of each comes anyway."""
    if _ringer is not None:
        _ringer.ring(node_ids)
    elif _others_may_hear():
        async_to_sync(ring_once)(node_ids)


def logged_out(user_id: Any) -> None:
    """Have all nodes look at the user's sessions now. Best effort: a reconcile comes anyway."""
    if _ringer is not None:
        _ringer.logged_out(user_id)
    elif _others_may_hear():
        async_to_sync(ring_once)(None, SESSIONS, {"user": str(user_id)})


def _others_may_hear() -> bool:
    return not isinstance(get_channel_layer(), InMemoryChannelLayer | None)


bus = Bus()
