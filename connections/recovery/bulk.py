"""Recovery of many users at once."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from connections import database
from connections.policy.actor import Actor
from connections.policy.states import RunKind
from connections.recovery import runs

logger = logging.getLogger(__name__)

# Between the starts of the runs: a hundred are spread over ten seconds, so that neither the roll calls nor the
# clients that come back arrive all at once.
PACE_SECONDS = 0.1
TABLE_LOCKED = 2  # users in a row who met a lock: then a table may be locked, and each of the others would wait as long


@dataclass(slots=True)
class Bulk:
    """The result of a bulk recovery. `failed` and `left_out` are usernames; those left out were not tried."""

    opened: int = 0
    joined: int = 0
    failed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not self.failed and not self.left_out

    def sentences(self) -> list[str]:
        said = [f"{self.opened} {'recovery' if self.opened == 1 else 'recoveries'} opened."]
        if self.joined:
            said.append(f"{self.joined} joined one that was under way.")
        if self.failed:
            said.append(f"{len(self.failed)} failed: {', '.join(self.failed)}.")
        if self.left_out:
            said.append(
                f"Then the database did not answer. {len(self.left_out)} were left out: {', '.join(self.left_out)}."
            )
        return said


def recover_each(users: Sequence[Any], actor: Actor, reason: str) -> Bulk:
    """Open or join a cleanup for each user. A failure for one user doesn't block the others.

    Raises the error if the database was away, or a table locked, before any run was opened or joined.
    """
    done, locked = Bulk(), 0
    for number, user in enumerate(users):
        try:
            _, joined = runs.request(
                user, RunKind.CLEANUP, actor=actor, reason=reason, delay=done.opened * PACE_SECONDS
            )
        except Exception as error:  # one user who can't be recovered must not keep the others
            locked = locked + 1 if database.is_busy(error) else 0
            if database.is_away(error) or locked == TABLE_LOCKED:
                if not done.opened + done.joined:
                    raise
                logger.warning("bulk_recovery_ended", extra={"user": str(user.pk), "left_out": len(users) - number})
                done.left_out = [left.get_username() for left in users[number:]]  # each would wait as long
                break
            logger.exception("bulk_recovery_failed", extra={"user": str(user.pk)})
            done.failed.append(user.get_username())
        else:
            locked = 0
            done.joined += joined
            done.opened += not joined
    return done
