"""Keep the node's lease: register, renew, and start again after a fence. In the lease thread."""

import logging
import os
import socket
import time
from collections.abc import Callable
from uuid import UUID

from connections.node.parts import NodeParts
from connections.node.reconcile import close_reasons_of
from connections.policy.states import CloseReason
from connections.records import lease
from connections.records.lease import NodeGone

logger = logging.getLogger(__name__)


class LeaseKeeper:
    """`works` says whether the node does its work: only then is the lease renewed, or a new one taken. `on_registered`
    and `on_drain_wanted` are called on the event loop.
    """

    def __init__(
        self,
        parts: NodeParts,
        *,
        works: Callable[[], bool],
        on_registered: Callable[[UUID], None],
        on_drain_wanted: Callable[[], None],
    ) -> None:
        self.renewed_at = time.monotonic()  # when the lease was last renewed
        self._parts = parts
        self._works = works
        self._on_registered = on_registered
        self._on_drain_wanted = on_drain_wanted

    def round(self) -> None:
        """Renew the lease; register if there is none. A node that does not work only looks whether it was fenced."""
        identity, works = self._parts.identity, self._works()
        if not works:
            logger.error("lease_not_renewed", extra={"node": identity.name})
        if identity.id is None:
            if works:
                self._register()
        elif works:
            self._renew(identity.id)
        elif not lease.holds(identity.id):
            self._close_as_fenced(identity.id)

    def _renew(self, node_id: UUID) -> None:
        parts = self._parts
        try:
            drain_wanted = lease.renew(node_id, parts.tunables, len(parts.registry))
        except NodeGone:
            self._close_as_fenced(node_id)
            self._register()
            return
        self.renewed_at = time.monotonic()
        if drain_wanted:
            parts.call(self._on_drain_wanted)

    def _register(self) -> None:
        parts = self._parts
        if parts.identity.leaving:
            return
        name = parts.identity.name
        row = lease.register(parts.tunables, name=name, host=socket.gethostname(), pid=os.getpid(), serves=True)
        parts.identity.id = parts.writer.node_id = row.pk
        self.renewed_at = time.monotonic()
        parts.call(self._on_registered, row.pk)
        logger.info("node_registered", extra={"node": name, "id": str(row.pk)})

    def _close_as_fenced(self, node_id: UUID) -> None:
        """Close every client: other nodes have fenced this one while it was silent. Clients reconnect with jitter.

        If a record was closing for another reason (a reset, say), its client gets that reason.
        """
        parts = self._parts
        managers = {manager.id: manager for manager in parts.registry.all()}
        reasons = close_reasons_of(managers)
        facts = {"node": parts.identity.name, "id": str(node_id), "managers": len(managers)}
        logger.warning("node_found_itself_fenced", extra=facts)
        parts.identity.id = parts.writer.node_id = None
        for pk, manager in managers.items():
            reason = reasons.get(pk, CloseReason.NODE_LOST)
            parts.order_close(manager, reason, "its node was fenced while it was away, and woke up")
