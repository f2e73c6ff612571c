"""Who did something: a member of staff, a user, a command, or the system itself."""

from dataclasses import dataclass
from typing import Any, Self

from connections.policy.states import ActorKind


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did something. `label` is a username, or the name of a node."""

    kind: ActorKind
    label: str = ""
    user_id: Any = None
    ip: str | None = None

    @classmethod
    def system(cls, label: str = "") -> Self:
        return cls(ActorKind.SYSTEM, label)

    @classmethod
    def command(cls, label: str = "command line") -> Self:
        return cls(ActorKind.COMMAND, label)

    @classmethod
    def staff(cls, user: Any, ip: str | None = None) -> Self:
        return cls(ActorKind.STAFF, user.get_username(), user.pk, ip)

    @classmethod
    def user(cls, user: Any, ip: str | None = None) -> Self:
        return cls(ActorKind.USER, user.get_username(), user.pk, ip)
