"""The last thing that a node does in the database, in a thread of its own."""

import logging
import time
from collections.abc import Sequence
from uuid import UUID

from connections import database
from connections.database.trouble import in_words
from connections.database.worker import WorkerThread
from connections.models import ManagerRecord
from connections.node.parts import Identity, NodeParts
from connections.policy.actor import Actor
from connections.policy.states import CloseReason
from connections.records import lease, lifecycle
from connections.records.lifecycle import Ending

logger = logging.getLogger(__name__)


def retire(parts: NodeParts, threads: Sequence[WorkerThread], seconds: float) -> None:
    """Stop the threads, the writer last, in half of the seconds; then retire the node row, and release what they left.
    What fails is left to the sweep and the fence.
    """
    identity = parts.identity
    _stop(threads, seconds / 4)
    parts.writer.stop(seconds / 4)
    node_id, identity.id = identity.id, None
    if node_id is None:
        return
    try:
        with database.own_connection(parts.tunables.beat_seconds):
            lease.retire(node_id)  # first: from now on the sweep frees what can't be freed here
            left = _release_all(node_id, identity)
        logger.info("node_retired", extra={"node": identity.name, "id": str(node_id), "left": left})
    except Exception as error:  # whatever the driver raises: a node that leaves must end
        logger.exception("retire_failed", extra={"node": identity.name, "error": in_words(error)})


def _stop(threads: Sequence[WorkerThread], seconds: float) -> None:
    """Let all threads end together; one that hangs is left behind."""
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.stop(0)
    for thread in threads:
        thread.stop(max(0.0, deadline - time.monotonic()))


def _release_all(node_id: UUID, identity: Identity) -> int:
    """Free the records that the node still holds. Returns how many there were."""
    evidence = f"node {identity.name} " + (f"can't work: {identity.failing}" if identity.failing else "drained")
    held = list(ManagerRecord.objects.held().on(node_id).values_list("pk", flat=True))
    ending = Ending(CloseReason.NODE_DRAINING, evidence, Actor.system(identity.name))
    lifecycle.end_each(held, ending, database.now())
    return len(held)
