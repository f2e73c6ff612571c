"""The answer to a roll call, while the beat's thread takes away the probe of an earlier answer."""

import asyncio
from datetime import UTC, datetime

from connections.policy.states import ProbeMode, Verdict
from connections.websocket.manager import Manager
from connections.websocket.probe import Probe
from tests.support.one_socket import ADMITTED, Node, Socket, accepts, managed, until


class Raced(Manager):
    """A manager whose probe is gone for whoever reads it a second time, as when the beat's thread comes in between."""

    shared: Probe | None = None

    @property
    def probe(self) -> Probe | None:
        probe, self.shared = self.shared, None
        return probe

    @probe.setter
    def probe(self, probe: Probe | None) -> None:
        self.shared = probe


def test_a_frame_that_answers_a_probe_reads_the_probe_once() -> None:
    async def main() -> None:
        socket, node = Socket(), Node()
        node.decision.set_result(ADMITTED)
        manager, running = managed(socket, node, accepts, kind=Raced)
        await until(lambda: manager.accepted)
        probe = manager.probe = Probe(datetime.now(UTC), ProbeMode.REPORT, node.clock.now())
        socket.arrive({"type": "websocket.receive", "text": "hello"})
        await until(lambda: probe.verdict or running.done() or node.ended)
        assert (probe.verdict, node.ended) == (Verdict.ALIVE, [])
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(main())
