"""Compare all of a node's records with its registry, both ways."""

import logging
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from uuid import UUID

from connections import database, metrics
from connections.models import ManagerRecord
from connections.node.orphans import Orphans
from connections.node.parts import CloseOrder, NodeParts
from connections.node.turns import Turns
from connections.policy.states import CloseReason, is_sent
from connections.recovery.budget import Budget

logger = logging.getLogger(__name__)

SLICE = 500  # records between two looks at the budget
READ = 5000  # ids of one statement; PostgreSQL takes 65,535 parameters, and SQLite 250,000


class Reconcile:
    """Find records that have no manager, and leave them to `orphans`; close managers that have no record.

    Records younger than a handshake, and managers that the writer still writes, are passed over.
    """

    def __init__(self, parts: NodeParts, orphans: Orphans) -> None:
        self._parts = parts
        self._orphans = orphans
        self._due_at = time.monotonic() + parts.tunables.reconcile_seconds
        self._unknown, self._lost = Difference(), Difference()  # records without a manager; managers without a record

    def step(self, node_id: UUID, budget: Budget) -> bool:
        """Compare, if it is due; look at slices of what differed. Returns whether some is left for the next round."""
        now = time.monotonic()
        if not self._unknown.ids and not self._lost.ids and now >= self._due_at:
            self._compare(node_id)
            self._due_at = now + self._parts.tunables.reconcile_seconds
        for some in self._unknown.slices(budget.share(2)):
            self._pass_on_orphans(some, node_id)
        for some in self._lost.slices(budget):
            self._close_lost(some)
        return bool(self._unknown.ids or self._lost.ids)

    def _compare(self, node_id: UUID) -> None:
        managers = {m.id for m in self._parts.registry.all() if m.admission is not None and not m.closing}
        held = set(ManagerRecord.objects.held().on(node_id).values_list("pk", flat=True))
        self._lost.ids = managers - held
        self._unknown.ids = {pk for pk in held if self._parts.registry.get(pk) is None}

    def _pass_on_orphans(self, ids: list[UUID], node_id: UUID) -> None:
        parts = self._parts
        handshake_ago = database.now() - timedelta(seconds=parts.tunables.handshake_seconds)
        old = ManagerRecord.objects.held().on(node_id).filter(pk__in=ids, opened_at__lt=handshake_ago)
        orphans = [pk for pk in old.values_list("pk", flat=True) if not parts.writer.is_writing(pk)]
        self._report("orphaned", self._orphans.add(node_id, orphans))

    def _close_lost(self, ids: list[UUID]) -> None:
        """Close those of these managers whose record is closed or deleted."""
        parts = self._parts
        lost = [pk for pk in ids if not parts.writer.is_writing(pk)]
        rows = ManagerRecord.objects.filter(pk__in=lost).values_list("pk", "closed_at", "close_reason")
        found = {pk: (closed_at, reason) for pk, closed_at, reason in rows}
        orders: list[CloseOrder] = []
        for pk in lost:
            manager = parts.registry.get(pk)
            # A row without `closed_at` was admitted since the comparison; a missing row was deleted by hand.
            closed_at, word = found.get(pk, (None, ""))
            if manager is None or manager.closing or (pk in found and closed_at is None):
                continue
            reason = CloseReason(word) if is_sent(word) else CloseReason.ORPHANED
            orders.append((manager, reason, "its record was closed"))
        parts.order_closes(orders)
        self._report("lost", len(orders))

    def _report(self, kind: str, count: int) -> None:
        if count:
            metrics.drift.labels(kind).inc(count)
            logger.info("reconciled", extra={"kind": kind, "count": count})


class Difference:
    """Ids that differed when they were compared, and are looked at in slices, also over several rounds."""

    def __init__(self) -> None:
        self.ids: set[UUID] = set()  # still to be looked at
        self._turns = Turns()

    def slices(self, budget: Budget) -> Iterator[list[UUID]]:
        """Yield slices while the budget lasts. What was looked at without an error is done."""
        for some in self._turns.slices(self.ids, SLICE, budget):
            yield some
            self.ids.difference_update(some)


def close_reasons_of(ids: Iterable[UUID]) -> dict[UUID, CloseReason]:
    """The close reasons of these records, closing or closed, as far as clients may be sent them."""
    wanted, reasons = list(ids), dict[UUID, CloseReason]()
    for start in range(0, len(wanted), READ):
        rows = ManagerRecord.objects.filter(pk__in=wanted[start : start + READ]).values_list("pk", "close_reason")
        reasons |= {pk: CloseReason(reason) for pk, reason in rows if is_sent(reason)}
    return reasons
