"""Make rows for tests that start no server: users, nodes, records, gates and runs, as the engine writes them."""

import uuid
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, User

from connections import database
from connections.conf import tunables
from connections.models import ManagerRecord, Node, RecoveryRun, UserGate
from connections.policy.states import ActorKind, CloseReason, RecordState, RunKind, Verdict

VIEWER, SUPPORT, LEAD = "Support viewer", "Support", "Support lead"


def make_user(username: str, **fields: Any) -> User:
    fields.setdefault("email", f"{username}@example.org")
    return User.objects.create(username=username, password=_hashed("demo", tuple(settings.PASSWORD_HASHERS)), **fields)


@cache
def _hashed(password: str, hashers: tuple[str, ...]) -> str:
    """Hash a password once for all users that the same hashers check, since hashing is slow on purpose."""
    return make_password(password)


def make_staff(group: str, username: str = "") -> User:
    """A member of one of the console's three groups. The default username is the group's name."""
    user = make_user(username or group.lower().replace(" ", "_"), is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    return user


def make_node(name: str = "web-1", *, now: datetime | None = None, silent: float = 0, **fields: Any) -> Node:
    """A steady node that last renewed `silent` seconds ago."""
    now = now or database.now()
    renewed = now - timedelta(seconds=silent)
    lease = timedelta(seconds=tunables().lease_seconds)
    defaults: dict[str, Any] = {
        "name": name,
        "host": "test",
        "pid": 4321,
        "started_at": renewed - timedelta(hours=1),
        "renewed_at": renewed,
        "lease_expires_at": renewed + lease,
        "steady_since": renewed - timedelta(hours=1),
    }
    return Node.objects.create(**defaults | fields)


def lost_node(name: str = "web-2", **fields: Any) -> Node:
    """A node that was fenced a minute ago, 15 s after it last renewed its lease."""
    now = database.now()
    fenced: dict[str, Any] = {"fenced_at": now - timedelta(minutes=1), "fenced_evidence": "no renewal for 10 s"}
    return make_node(name, silent=75, **fenced | fields)


def make_record(user: User | None, node: Node, *, pool: str = "chat", age: float = 60, **fields: Any) -> ManagerRecord:
    """A live manager that was opened and last active `age` seconds ago."""
    opened = database.now() - timedelta(seconds=age)
    defaults: dict[str, Any] = {
        "id": uuid.uuid4(),
        "user": user,
        "pool": pool,
        "node": node,
        "opened_at": opened,
        "accepted_at": opened,
        "last_active_at": opened,
        "ip": "192.0.2.7",
        "user_agent": "Firefox on a laptop",
    }
    return ManagerRecord.objects.create(**defaults | fields)


def make_records(count: int, user: User | None, node: Node, **fields: Any) -> list[ManagerRecord]:
    return [make_record(user, node, **fields) for _ in range(count)]


def closed_record(
    user: User | None,
    node: Node,
    reason: CloseReason = CloseReason.CLIENT_CLOSED,
    *,
    ago: float = 30,
    **fields: Any,
) -> ManagerRecord:
    """A manager that was closed `ago` seconds ago."""
    closed: dict[str, Any] = {
        "state": RecordState.CLOSED,
        "closed_at": database.now() - timedelta(seconds=ago),
        "close_reason": reason,
        "evidence": f"for the test: {reason}",
        "actor_kind": ActorKind.SYSTEM,
    }
    return make_record(user, node, age=ago + 60, **closed | fields)


def make_gate(user: User, *, pool: str = "chat", soft_limit: int | None = None, **fields: Any) -> UserGate:
    return UserGate.objects.create(user=user, pool=pool, soft_limit=soft_limit, **fields)


def make_run(user: User, *, kind: RunKind = RunKind.CLEANUP, ago: float = 10, **fields: Any) -> RecoveryRun:
    """An open run that staff asked for `ago` seconds ago; give `finished_at` and `outcome` for one that ended."""
    opened = database.now() - timedelta(seconds=ago)
    defaults: dict[str, Any] = {
        "user": user,
        "user_label": user.get_username(),
        "kind": kind,
        "actor_kind": ActorKind.STAFF,
        "actor": "support",
        "reason": "the user can't connect",
        "opened_at": opened,
        "due_at": opened,
    }
    return RecoveryRun.objects.create(**defaults | fields)


def answer_roll_call(*records: ManagerRecord, verdict: Verdict = Verdict.ALIVE, evidence: str = "answered") -> None:
    """Write the answers to a roll call on these records, as their node does once it has asked the clients."""
    ManagerRecord.objects.filter(pk__in=[record.pk for record in records]).update(
        probe_answered_at=database.now(), probe_verdict=verdict, probe_evidence=evidence
    )
