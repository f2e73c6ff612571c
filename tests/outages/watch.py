"""Look at the nodes a few times a second: /readyz, the lease's age, the writer's backlog; note our own lag."""

import asyncio
import contextlib
import http.client
import json
import re
import time
from dataclasses import dataclass, field
from typing import Self

from tests.outages import bounds
from tests.support.servers import Server

LOOK_SECONDS = 0.2
ANSWER_SECONDS = 5.0
LAG_LOOK_SECONDS = 0.02
FIGURE = re.compile(r"^(connections_writer_backlog|connections_lease_age_seconds) (\S+)$", re.MULTILINE)


@dataclass
class NodeWatch:
    """What one node said. Times are of time.time()."""

    ready: list[tuple[float, bool]] = field(default_factory=list)
    why: str = ""  # the first reason for a 503
    unready_since: float | None = None
    backlog: int = 0
    lease_age: float = 0.0
    ended: bool = False

    @property
    def lost_lease(self) -> bool:
        return self.lease_age > bounds.PACE.lease

    def ready_since(self, moment: float) -> float | None:
        """Since when, from `moment` on, the node has been ready, if it is ready now. A look holds until the next."""
        since = None
        for at, ready in self.ready:
            since = (since or max(at, moment)) if ready else None
        return since


class Watch:
    """Use it as an async context manager."""

    def __init__(self, nodes: list[Server]) -> None:
        self.nodes = {node.log.stem: node for node in nodes}
        self.seen = {name: NodeWatch() for name in self.nodes}
        self.lag = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._look(name), name=f"watch {name}") for name in self.nodes]
        self._tasks.append(asyncio.create_task(self._note_lag(), name="lag"))
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    @property
    def lost_leases(self) -> list[str]:
        return [name for name, seen in self.seen.items() if seen.lost_lease]

    @property
    def backlog(self) -> int:
        return max(seen.backlog for seen in self.seen.values())

    async def _look(self, name: str) -> None:
        node, seen = self.nodes[name], self.seen[name]
        while True:
            await asyncio.to_thread(_look_once, node, seen)
            await asyncio.sleep(LOOK_SECONDS)

    async def _note_lag(self) -> None:
        """Note by how much this process was late: so late may its measurements be, too."""
        while True:
            due = time.monotonic() + LAG_LOOK_SECONDS
            await asyncio.sleep(LAG_LOOK_SECONDS)
            self.lag = max(self.lag, time.monotonic() - due)


def _look_once(node: Server, seen: NodeWatch) -> None:
    seen.ended = seen.ended or not node.running
    at = time.time()
    try:
        status, body = node.get("/readyz", timeout=ANSWER_SECONDS)
        _, figures = node.get("/metrics", timeout=ANSWER_SECONDS)
    except (OSError, http.client.HTTPException) as error:
        seen.ready.append((at, False))
        seen.unready_since = seen.unready_since or at
        seen.why = seen.why or f"no answer: {error!r}"
        return
    seen.ready.append((at, status == 200))
    if status != 200:
        seen.unready_since = seen.unready_since or at
        with contextlib.suppress(ValueError):
            seen.why = seen.why or str(json.loads(body)["why"])
    found = dict(FIGURE.findall(figures))
    seen.backlog = max(seen.backlog, int(float(found.get("connections_writer_backlog", 0))))
    seen.lease_age = max(seen.lease_age, float(found.get("connections_lease_age_seconds", 0)))
