"""The one timer of a node: ping silent clients, close those that did not answer in time, and end roll calls.

Each tick first has the event loop read what has come, and then judges by the time at which the tick began. So nobody is
closed whose answer lay unread, however late the tick is, and a node whose ticks are all late judges its clients too: a
time-out then takes as many ticks as ever, which are (period + lateness) / period as long.
"""

import asyncio
import logging
from datetime import datetime

from connections.conf import Tunables
from connections.policy.liveness import Pulse, Timeouts, judge, roll_call
from connections.policy.states import DEAD, CloseReason, ProbeMode
from connections.websocket.clock import NodeClock
from connections.websocket.manager import Manager
from connections.websocket.probe import Probe
from connections.websocket.registry import Registry
from connections.websocket.transport import read_what_has_come

logger = logging.getLogger(__name__)


class Keepalive:
    def __init__(self, registry: Registry, clock: NodeClock, tunables: Tunables) -> None:
        self._registry = registry
        self._clock = clock
        self._tunables = tunables
        self._timeouts = Timeouts(
            heartbeat=tunables.heartbeat_seconds,
            pong=tunables.pong_seconds,
            probe=tunables.probe_seconds,
            stuck=tunables.stuck_seconds,
            handshake=tunables.handshake_seconds,
            send=tunables.send_seconds,
        )
        self.answers = 0  # probes that ended since the node last read this

    async def run(self) -> None:
        while True:
            await self.tick()
            # A long tick does not make the next one late, and leaves the event loop half a period for its clients.
            await asyncio.sleep(max(self._clock.until_tick(), self._tunables.tick_seconds / 2))

    async def tick(self) -> None:
        """Look at every manager once, after everything that has come has been read."""
        now = self.begin_tick()
        await read_what_has_come()
        self.look_at_all(now)

    def begin_tick(self) -> float:
        """Return the time by which this tick judges: what this process has slept through is left out."""
        on_time = self._clock.tick(self._tunables.tick_seconds)
        now = self._clock.now()
        if not on_time:
            for manager in self._registry.all():
                manager.clock_set_back(now)
        return now

    def look_at_all(self, now: float) -> None:
        for manager in self._registry.all():
            if manager.admission is None or manager.closing:
                continue
            try:
                self._look(manager, now)
            except Exception:  # an error of one manager must not stop the timer of all
                logger.exception("manager_not_judged", extra={"manager": str(manager.id)})

    def _look(self, manager: Manager, now: float) -> None:
        pulse = manager.pulse(now)
        self._roll_call(manager, pulse, now, judging=True)
        judged = judge(pulse, now, self._timeouts)
        if judged.ping:
            manager.ping()
        elif judged.end is not None and not manager.closing:
            self._end(manager, judged.end, judged.evidence)

    def begin_probe(self, manager: Manager, wanted_at: datetime, mode: ProbeMode) -> None:
        """Begin the roll call of one manager, or change the mode of the one under way. On the event loop."""
        probe = manager.probe
        if probe is not None and probe.wanted_at == wanted_at:
            probe.mode = mode
            return
        now = self._clock.now()
        manager.probe = Probe(wanted_at, mode, now)
        pulse = manager.pulse(now)
        if pulse.accepted and pulse.probeable:
            manager.send_ping()
        # Only the tick judges: it leaves out what this process has slept through, and reads first.
        self._roll_call(manager, pulse, now, judging=False)

    def _roll_call(self, manager: Manager, pulse: Pulse, now: float, *, judging: bool) -> None:
        """End the roll call of a manager whose verdict is known; without `judging`, only a verdict that spares it."""
        probe = manager.probe
        if probe is None or probe.verdict is not None:
            return
        probe.sent = min(probe.sent, now)  # the clock may have been set back since
        found = roll_call(pulse, probe.sent, now, self._timeouts)
        if found is None or (found[0] in DEAD and not judging):
            return
        probe.answer(*found)
        self.answers += 1
        if probe.mode is ProbeMode.CLOSE and found[0] in DEAD:
            manager.order_close(CloseReason(found[0].value), found[1])

    def _end(self, manager: Manager, reason: CloseReason, evidence: str) -> None:
        if self._tunables.observe and reason is not CloseReason.CLIENT_GONE:
            if manager.would_close_for is not reason:
                manager.would_close_for = reason
                logger.warning(
                    "would_close", extra={"manager": str(manager.id), "reason": reason, "evidence": evidence}
                )
            return
        manager.order_close(reason, evidence)
