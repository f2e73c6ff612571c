"""The node's services for its managers, on the event loop: admit, release, count and log."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from connections import metrics
from connections.conf import Tunables
from connections.node.parts import NodeParts
from connections.policy.admission import Admission
from connections.policy.states import CloseReason, Refused
from connections.websocket.clock import NodeClock
from connections.websocket.manager import Manager

logger = logging.getLogger(__name__)

WRITTEN_SECONDS = 1.0  # for the last releases of a server that stops; what is not written by then, a fence frees


class ManagerHost:
    """The `Host` of this node's managers."""

    def __init__(self, parts: NodeParts, *, on_probe_answered: Callable[[], None]) -> None:
        self.clock: NodeClock = parts.clock
        self.tunables: Tunables = parts.tunables
        self._parts = parts
        self._on_probe_answered = on_probe_answered
        self._writing: asyncio.Task[None] | None = None

    @property
    def leaving(self) -> bool:
        return self._parts.identity.leaving

    async def admit(self, manager: Manager) -> Admission | Refused:
        """Decide one handshake, then count and log the decision."""
        began = time.monotonic()
        decision = await self._decide(manager)
        seconds = time.monotonic() - began
        metrics.admission_seconds.observe(seconds)
        facts = self._facts_of(manager) | {"seconds": round(seconds, 4)}
        if isinstance(decision, Refused):
            metrics.admissions.labels(decision.value).inc()
            logger.info("manager_refused", extra=facts | {"cause": decision.value})
        else:
            metrics.admissions.labels("admitted").inc()
            logger.info("manager_admitted", extra=facts | {"live": decision.live})
        return decision

    async def _decide(self, manager: Manager) -> Admission | Refused:
        parts = self._parts
        if self.leaving:
            return Refused.NODE_DRAINING
        if parts.identity.failing:
            return Refused.TRY_AGAIN
        refused = parts.limiter.refuse(manager.handshake)
        if refused is not None:
            return refused
        parts.registry.add(manager)
        decision: Admission | Refused = Refused.TRY_AGAIN
        future = parts.writer.admit(manager.handshake)
        try:
            async with asyncio.timeout(manager.handshake.seconds_left(self.tunables.admission_seconds)):
                decision = await asyncio.wrap_future(future)
        except TimeoutError:
            pass  # `manager_refused` is logged, and the writer gives the admission up
        finally:
            self._settle(manager, decision, future)
        return decision

    def _settle(self, manager: Manager, decision: Admission | Refused, future: "Future[Admission | Refused]") -> None:
        """Count the decision. Who was not admitted has no slot, unless the writer decided just now."""
        self._parts.limiter.settle(manager.handshake, decision)
        if isinstance(decision, Admission):
            return
        if not future.cancel() and isinstance(future.result(), Admission):
            evidence = "its admission came too late"
            self._parts.writer.release(manager.id, CloseReason.CLIENT_GONE, evidence, manager.user_id)
        self._parts.registry.remove(manager)

    def retry_after(self, manager: Manager, refused: Refused) -> float:
        return self._parts.limiter.retry_after(manager.handshake, refused)

    def accepted(self, manager: Manager) -> None:
        self._parts.writer.accepted(manager.id, manager.user_id)

    def released(self, manager: Manager, reason: CloseReason, evidence: str) -> None:
        if self._parts.registry.get(manager.id) is None:
            return  # a manager that was not admitted has no slot to release
        self._parts.writer.release(manager.id, reason, evidence, manager.user_id)
        if manager.admission is not None:
            why = {"reason": reason, "evidence": evidence, "seconds": round(self.clock.now() - manager.opened, 3)}
            logger.info("manager_closed", extra=self._facts_of(manager) | why)

    async def written(self) -> None:
        """Wait until everything that managers have released so far is written, for WRITTEN_SECONDS at most."""
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._until_written(), name="connections-written")
        await asyncio.shield(self._writing)  # one task polls for all managers

    async def _until_written(self) -> None:
        deadline = time.monotonic() + WRITTEN_SECONDS
        while self._parts.writer.backlog() and time.monotonic() < deadline:  # noqa: ASYNC110 - once in a process's life
            await asyncio.sleep(0.02)

    def abandoned(self, manager: Manager) -> None:
        metrics.abandoned.inc()
        logger.error("handler_abandoned", extra=self._facts_of(manager))

    def probe_answered(self) -> None:
        self._on_probe_answered()

    def _facts_of(self, manager: Manager) -> dict[str, Any]:
        return {
            "user": str(manager.user_id),
            "pool": manager.pool,
            "manager": str(manager.id),
            "node": self._parts.identity.name,
        }
