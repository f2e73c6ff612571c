"""The audit trail: who did what to whom, when and why; also when it failed."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import Error

from connections import database
from connections.models import AuditEntry, RecoveryRun
from connections.policy.actor import Actor

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuditedAction:
    """An action that an actor is about to take, and its one audit entry."""

    actor: Actor
    action: str
    user: Any = None
    target: str = ""
    reason: str = ""

    def done(self, outcome: str, *, target: str = "", run: RecoveryRun | None = None) -> AuditEntry:
        """Write the entry and return it. Call this once, in the transaction of the change."""
        return AuditEntry.objects.create(
            at=database.now(),
            actor_kind=self.actor.kind,
            actor_user_id=self.actor.user_id,
            actor=self.actor.label[:200],
            ip=self.actor.ip,
            action=self.action,
            user_id=None if self.user is None else self.user.pk,  # by key: a router may forbid the relation
            user_label=self.user.get_username()[:200] if self.user is not None else "",
            target=(target or self.target)[:200],
            reason=self.reason[:500],
            outcome=outcome[:500],
            run=run,
        )

    def failed(self, error: Exception) -> None:
        """Write the entry about a failure, in its own transaction. If that fails too, log the entry."""
        try:
            self.done(f"failed: {in_a_line(error)}")
        except Error as unwritten:
            context = {
                "actor": f"{self.actor.label} ({self.actor.kind})",
                "action": self.action,
                "user": "" if self.user is None else str(self.user.pk),
                "target": self.target,
                "reason": self.reason,
                "error": str(error),
                "because": str(unwritten),
            }
            logger.exception("audit_not_written", extra=context)


@contextmanager
def audited(
    actor: Actor, action: str, *, user: Any = None, target: str = "", reason: str = ""
) -> Iterator[AuditedAction]:
    """Wrap the transaction of an action; the transaction writes its audit entry with `done`.

    If the transaction raises, write an entry that says that the action failed, and re-raise the error.
    """
    audit = AuditedAction(actor, action, user, target, reason)
    try:
        yield audit
    except Exception as error:
        audit.failed(error)
        raise


def in_a_line(error: BaseException) -> str:
    """Return the first line of an error: database drivers add lines about where the error happened."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
