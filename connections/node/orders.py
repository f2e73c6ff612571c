"""What the records ask of this node: managers to be closed, and probes to be made. Reads, and calls of the event loop;
what has to be written for it is left to later steps of the beat.
"""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

from connections import database, metrics
from connections.models import ManagerRecord
from connections.node.answers import Answer, Answers
from connections.node.orphans import Orphans
from connections.node.parts import CloseOrder, NodeParts
from connections.node.turns import Turns
from connections.policy.states import CloseReason, OpenEnum, ProbeMode, RecordState, Verdict
from connections.recovery.budget import Budget
from connections.websocket.manager import Manager

logger = logging.getLogger(__name__)

SLICE = 1000  # rows between two looks at the budget
WORDS = 100  # unknown words that are remembered, so that each is logged once


class CloseOrders:
    """Close the managers whose records are `closing`. A record without a manager is left to `orphans`."""

    def __init__(self, parts: NodeParts, orphans: Orphans) -> None:
        self._parts = parts
        self._orphans = orphans
        self._turns = Turns()
        self._unknown = UnknownWords()

    def step(self, node_id: UUID, budget: Budget) -> bool:
        """Carry out the orders. Returns whether some are left for the next round."""
        fields = ("pk", "close_reason", "evidence", "closing_at")
        rows = {row[0]: row for row in ManagerRecord.objects.closing().on(node_id).values_list(*fields)}
        wanted = [pk for pk in rows if (manager := self._parts.registry.get(pk)) is None or not manager.closing]
        if not wanted:
            return False
        now = database.now()
        for some in self._turns.slices(wanted, SLICE, budget):
            self._parts.order_closes(list(self._orders([rows[pk] for pk in some], node_id, now)))
        return self._turns.left

    def _orders(
        self, rows: list[tuple[UUID, str, str, datetime]], node_id: UUID, now: datetime
    ) -> Iterator[CloseOrder]:
        for pk, word, evidence, closing_at in rows:
            manager = self._parts.registry.get(pk)
            if manager is not None:
                reason = CloseReason(word)
                self._unknown.log(pk, reason)
                metrics.kick_seconds.observe(max(0.0, (now - closing_at).total_seconds()))
                yield manager, reason, evidence
            elif not self._parts.writer.is_writing(pk):
                self._orphans.add(node_id, [pk])


class ProbeOrders:
    """Begin the wanted probes of managers. Where there is no manager, the answer is known, and left to `answers`."""

    def __init__(self, parts: NodeParts, orphans: Orphans, answers: Answers) -> None:
        self._parts = parts
        self._orphans = orphans
        self._answers = answers
        self._handshake = timedelta(seconds=parts.tunables.handshake_seconds)
        self._turns = Turns()
        self._unknown = UnknownWords()

    def step(self, node_id: UUID, budget: Budget) -> bool:
        """Begin the probes. Returns whether some are left for the next round."""
        wanted = ManagerRecord.objects.probe_wanted().on(node_id).values_list("pk", flat=True)
        for some in self._turns.slices(filter(self._is_open, wanted), SLICE, budget):
            self._parts.call_each(self._parts.keepalive.begin_probe, list(self._probes(some, node_id)))
        return self._turns.left

    def _is_open(self, pk: UUID) -> bool:
        """Whether there is something to do for a wanted probe: its answer is not just waiting to be written."""
        manager = self._parts.registry.get(pk)
        probe = None if manager is None else manager.probe
        return probe is None or probe.verdict is None

    def _probes(self, ids: list[UUID], node_id: UUID) -> Iterator[tuple[Manager, datetime, ProbeMode]]:
        """Yield the probes to begin. Answer those for which there is no manager."""
        now = database.now()
        rows = ManagerRecord.objects.probe_wanted().filter(pk__in=ids)
        fields = ("pk", "state", "opened_at", "probe_wanted_at", "probe_mode")
        for pk, state, opened_at, wanted_at, word in rows.values_list(*fields):
            manager, mode = self._parts.registry.get(pk), self._mode(pk, word)
            if manager is not None:
                if _is_wanted(manager, wanted_at, mode):
                    yield manager, wanted_at, mode
            elif state == RecordState.CLOSED:
                self._answers.add(Answer(pk, wanted_at, Verdict.ORPHANED, "closed meanwhile"))
            elif now - opened_at >= self._handshake and not self._parts.writer.is_writing(pk):
                self._answers.add(Answer(pk, wanted_at, Verdict.ORPHANED, "its node does not know it"))
                if mode is ProbeMode.CLOSE:
                    self._orphans.add(node_id, [pk])

    def _mode(self, pk: UUID, word: str) -> ProbeMode:
        """The mode of a wanted probe. One that only a newer version has is answered, and closes nothing."""
        mode = ProbeMode(word)
        self._unknown.log(pk, mode)
        return mode if mode.known else ProbeMode.REPORT


def _is_wanted(manager: Manager, wanted_at: datetime, mode: ProbeMode) -> bool:
    """Whether the probe is still to begin, or the one under way to change its mode."""
    probe = manager.probe
    return probe is None or (probe.verdict is None and (probe.wanted_at, probe.mode) != (wanted_at, mode))


class UnknownWords:
    """Log the words in rows that only a newer version has, or that somebody wrote by hand: each word once."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def log(self, pk: UUID, word: OpenEnum) -> None:
        if not word.known and word not in self._logged and len(self._logged) < WORDS:
            self._logged.add(str(word))
            logger.warning("word_unknown", extra={"manager": str(pk), "word": str(word)})
