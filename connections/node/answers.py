"""The answers to wanted probes, written to the records in slices. A locked record gets its answer in a later round."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from connections import database
from connections.models import ManagerRecord
from connections.node.parts import NodeParts
from connections.node.turns import Turns, write_together
from connections.policy.states import Verdict
from connections.recovery.budget import Budget
from connections.websocket.probe import Probe

SLICE = 200  # rows of one transaction


@dataclass(frozen=True, slots=True)
class Answer:
    """What one record's probe found. `probe` is its manager's; a record without a manager is answered for."""

    id: UUID
    wanted_at: datetime
    verdict: Verdict
    evidence: str
    probe: Probe | None = None


class Answers:
    """Write the verdicts of the probes that have ended. `ring_recovery` wakes the runs that wait for them."""

    def __init__(self, parts: NodeParts, *, ring_recovery: Callable[[], None]) -> None:
        self._parts = parts
        self._ring_recovery = ring_recovery
        self._turns = Turns()
        self._without_manager: list[Answer] = []

    def add(self, answer: Answer) -> None:
        """Have the next `step` write the answer of a record without a manager. Its row asks again until it has one."""
        self._without_manager.append(answer)

    def step(self, node_id: UUID, budget: Budget) -> bool:
        """Write the answers. Returns whether some are left for the next round."""
        answers = {answer.id: answer for answer in self._without_manager}
        self._without_manager.clear()
        for manager in self._parts.registry.all():
            probe = manager.probe
            if probe is not None and probe.verdict is not None:
                answers[manager.id] = Answer(manager.id, probe.wanted_at, probe.verdict, probe.evidence, probe)
        for some in self._turns.slices(answers, SLICE, budget):
            self._write([answers[pk] for pk in some])
            self._ring_recovery()
        return self._turns.left

    def _write(self, answers: list[Answer]) -> None:
        by_id = {answer.id: answer for answer in answers}
        write_together(by_id, lambda ids: self._update([by_id[pk] for pk in ids]))
        waiting = _waiting(answers)
        for answer in answers:
            manager = self._parts.registry.get(answer.id)
            if answer.probe is not None and answer.id not in waiting and manager and manager.probe is answer.probe:
                manager.probe = None

    def _update(self, answers: list[Answer]) -> None:
        wanted_at = {answer.id: answer.wanted_at for answer in answers}
        with database.atomic():
            now = database.now()
            rows = ManagerRecord.objects.filter(pk__in=wanted_at, probe_answered_at=None).order_by("pk")
            unlocked = rows.select_for_update(skip_locked=True, no_key=True).values_list("pk", "probe_wanted_at")
            mine = {pk for pk, at in unlocked if at == wanted_at[pk]}
            groups: dict[tuple[Verdict, str], list[UUID]] = defaultdict(list)
            for answer in answers:
                if answer.id in mine:
                    groups[answer.verdict, answer.evidence].append(answer.id)
            for (verdict, evidence), ids in groups.items():
                ManagerRecord.objects.filter(pk__in=ids).update(
                    probe_answered_at=now, probe_verdict=verdict, probe_evidence=evidence[:300]
                )


def _waiting(answers: list[Answer]) -> set[UUID]:
    """The ids of records that still wait for these answers: they are locked, or can't be written."""
    wanted_at = {answer.id: answer.wanted_at for answer in answers}
    rows = ManagerRecord.objects.filter(pk__in=wanted_at, probe_answered_at=None)
    return {pk for pk, at in rows.values_list("pk", "probe_wanted_at") if at == wanted_at[pk]}
