"""Records of this node that no manager stands behind: freed in slices, whoever found them."""

import time
from collections.abc import Iterable
from uuid import UUID

from connections import database
from connections.node.parts import NodeParts
from connections.node.turns import Turns, write_together
from connections.policy.actor import Actor
from connections.policy.states import CloseReason
from connections.records import lifecycle
from connections.records.lifecycle import Ending
from connections.recovery.budget import Budget

SLICE = 200  # records of one transaction
SET_ASIDE_SECONDS = 60.0  # a bad row needs a person; often enough to notice the repair


class Orphans:
    """The orphans that are known. A locked one is tried again in each round, a bad row after SET_ASIDE_SECONDS."""

    def __init__(self, parts: NodeParts) -> None:
        self._parts = parts
        self._turns = Turns()
        self._node_id: UUID | None = None
        self._retry_at: dict[UUID, float] = {}  # when each may be tried, on time.monotonic()

    def add(self, node_id: UUID, ids: Iterable[UUID]) -> int:
        """Have the next `step` free these records of the node. Give it none that the writer still writes.

        Returns how many were not known before.
        """
        if node_id != self._node_id:  # the sweep frees what an earlier identity of this node held
            self._node_id = node_id
            self._retry_at.clear()
        known = len(self._retry_at)
        for pk in ids:
            self._retry_at.setdefault(pk, 0.0)
        return len(self._retry_at) - known

    def step(self, node_id: UUID, budget: Budget) -> bool:
        """Free them. Returns whether some are left for the next round."""
        self.add(node_id, ())
        clock = time.monotonic()
        due = [pk for pk, at in self._retry_at.items() if at <= clock]
        for some in self._turns.slices(due, SLICE, budget):
            failed = set(write_together(some, self._free))
            held = lifecycle.held_among(some)
            for pk in some:
                if pk not in held:
                    del self._retry_at[pk]
                elif pk in failed:
                    self._retry_at[pk] = clock + SET_ASIDE_SECONDS
        return self._turns.left

    def _free(self, ids: list[UUID]) -> None:
        actor = Actor.system(self._parts.identity.name)
        ending = Ending(CloseReason.ORPHANED, "its node does not know it", actor)
        lifecycle.end_available(ids, ending, database.now())
