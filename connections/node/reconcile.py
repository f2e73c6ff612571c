"""Compare all of a node's records with its registry, both ways."""

import logging
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from connections import database, metrics
from connections.models import ManagerRecord
from connections.node.budget import Budget, Turns
from connections.node.orphans import Orphans
from connections.node.parts import CloseOrder, NodeParts
from connections.policy.states import CloseReason, is_sent

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
        self._turns = Turns()
        self._due_at = time.monotonic() + parts.tunables.reconcile_seconds
        self._lost: set[UUID] = set()  # managers without a held record, still to be looked at

    def step(self, node_id: UUID, budget: Budget) -> bool:
        """Compare, if it is due; close a slice of what was found. Returns whether some is left for the next round."""
        now = time.monotonic()
        if not self._lost and now >= self._due_at:
            self._compare(node_id)
            self._due_at = now + self._parts.tunables.reconcile_seconds
        for some in self._turns.slices(self._lost, SLICE, budget):
            self._close_lost(some)
            self._lost.difference_update(some)
        return self._turns.left

    def _compare(self, node_id: UUID) -> None:
        parts = self._parts
        managers = {m.id for m in parts.registry.all() if m.admission is not None and not m.closing}
        now = database.now()
        held = dict(ManagerRecord.objects.held().on(node_id).values_list("pk", "opened_at"))
        orphans = self._orphans_among(held, now)
        self._orphans.add(node_id, orphans)
        self._lost = managers - held.keys()
        metrics.drift.labels("orphaned").inc(len(orphans))
        if orphans:
            logger.info("reconciled", extra={"orphaned": len(orphans), "lost": 0})

    def _orphans_among(self, held: dict[UUID, datetime], now: datetime) -> list[UUID]:
        parts = self._parts
        handshake_ago = now - timedelta(seconds=parts.tunables.handshake_seconds)
        return [
            pk
            for pk, opened_at in held.items()
            if parts.registry.get(pk) is None and opened_at < handshake_ago and not parts.writer.is_writing(pk)
        ]

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
        metrics.drift.labels("lost").inc(len(orders))
        if orders:
            logger.info("reconciled", extra={"orphaned": 0, "lost": len(orders)})


def close_reasons_of(ids: Iterable[UUID]) -> dict[UUID, CloseReason]:
    """The close reasons of these records, closing or closed, as far as clients may be sent them."""
    wanted, reasons = list(ids), dict[UUID, CloseReason]()
    for start in range(0, len(wanted), READ):
        rows = ManagerRecord.objects.filter(pk__in=wanted[start : start + READ]).values_list("pk", "close_reason")
        reasons |= {pk: CloseReason(reason) for pk, reason in rows if is_sent(reason)}
    return reasons
