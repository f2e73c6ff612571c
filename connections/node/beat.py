"""The beat: each beat, or when a bell rings, the node acts on its flagged records, answers probes, and writes what
changed of its managers. In the beat thread.

In the database a beat costs the same for a hundred idle sockets as for five thousand.
"""

import logging
from collections.abc import Callable
from uuid import UUID

from connections import database
from connections.node.answers import Answers
from connections.node.changes import Changes, RefusalCounts
from connections.node.orders import CloseOrders, ProbeOrders
from connections.node.orphans import Orphans
from connections.node.parts import NodeParts
from connections.node.reconcile import Reconcile
from connections.recovery.budget import Budget

logger = logging.getLogger(__name__)

ROUND_BEATS = 0.5  # a round's budget; the rest of the beat is for the last slices and for locks that are waited for
PAUSE_BEATS = 0.25  # before a round that goes on with what the one before has left
LOCK_BEATS = 0.125  # PostgreSQL's lock_timeout: with whole tables locked, all steps together wait for less than a beat

Step = Callable[[UUID, Budget], bool]


class Beat:
    """What a node does on each beat: carry out what the rows ask of it, and write what has changed here.

    A round is a row of steps, orders first. No round lasts longer than a beat, whatever its work: each step stops when
    its budget is spent, and goes on in the next round. `ring_recovery` wakes the recovery thread when probes have
    ended, since runs wait for them.
    """

    def __init__(
        self,
        parts: NodeParts,
        *,
        ring_recovery: Callable[[], None],
        budget: Callable[[float], Budget] = Budget,
    ) -> None:
        self._parts = parts
        self._budget = budget
        self.goes_on = False  # whether the last round has left something for the next
        orphans, answers = Orphans(parts), Answers(parts, ring_recovery=ring_recovery)
        # Before the first step that writes, no lock of others is waited for.
        self._orders: list[Step] = [CloseOrders(parts, orphans).step, ProbeOrders(parts, orphans, answers).step]
        self._writes: list[Step] = [
            answers.step,
            Changes(parts).step,
            RefusalCounts(parts).step,
            Reconcile(parts, orphans).step,
            orphans.step,
        ]

    def __call__(self) -> None:
        """Do one round. Does nothing while the node has no lease."""
        node_id = self._parts.identity.id
        if node_id is None:
            return
        budget = self._budget(self._parts.tunables.beat_seconds * ROUND_BEATS)
        self.goes_on = False
        failed = [self._take(step, node_id, budget) for step in self._orders]
        for number, step in enumerate(self._writes):
            failed.append(self._take(step, node_id, budget.share(len(self._writes) - number)))
        errors = [error for error in failed if error is not None]
        if errors:
            raise errors[0]

    def next_round(self) -> float:
        """Seconds until the next round, unless a bell rings before."""
        return self._parts.tunables.beat_seconds * (PAUSE_BEATS if self.goes_on else 1.0)

    def _take(self, step: Step, node_id: UUID, budget: Budget) -> Exception | None:
        """Do one step. Returns its error: the other steps are done all the same, unless the database is away."""
        try:
            self.goes_on |= step(node_id, budget)
        except database.AWAY:
            raise
        except Exception as error:  # noqa: BLE001 - raised again at the end of the round, when the other steps had their turn
            logger.warning("step_left_out", extra={"step": step.__qualname__, "error": str(error)})
            return error
        return None
