"""The demo's rows: checks that it may use the database, old rows to clear, users to make.

Only rows of users with an email at the demo's domain are deleted.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.hashers import check_password, make_password
from django.contrib.auth.models import Group
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db.models import Exists, OuterRef, Q

from connections import database
from connections.models import AuditEntry, ManagerRecord, Node, RecoveryRun, Refusal, UserGate
from connections.policy.actor import Actor
from connections.recovery import actions
from console.demo.people import DOMAIN, PASSWORD, PEOPLE

NODES = MAIN, DOOMED = "demo-1", "demo-2"
POOL = "chat"

_MARK = "demo"  # in the data of a session that the demo made for one of its clients
_SESSION_DAYS = 1


class RefusedError(Exception):
    """The demo may not run on this database. The message is for users."""


def refuse_shared_database() -> None:
    """Raise RefusedError if the database has other users or servers, or if a demo already runs on it.

    The demo's staff accounts have a public password.
    """
    now = database.now()
    for node in Node.objects.alive(now).filter(serves=True):
        if node.name not in NODES:
            raise RefusedError(f"The server {node.name} is running on this database. {_OWN_DATABASE}")
        if _runs_here(node):
            raise RefusedError(
                f"The demo is already running on this database (process {node.pid}). Stop it first. {_OWN_DATABASE}"
            )
    users = get_user_model()._default_manager
    taken = users.filter(username__in=[person.name for person in PEOPLE]).exclude(_demo("email"))
    for user in taken:
        raise RefusedError(
            f"The user {user.get_username()!r} of this database is not the demo's, whose emails end in @{DOMAIN}. "
            f"{_OWN_DATABASE}"
        )
    others = users.exclude(_demo("email")).filter(is_superuser=False)
    count = others.count()
    if count:
        raise RefusedError(
            f"This database has {count} users that are not the demo's, {others[0].get_username()!r} among "
            f"them. The demo makes staff accounts with a public password. {_OWN_DATABASE}"
        )


_OWN_DATABASE = "Give the demo a database of its own: DATABASE_URL=sqlite:///demo.sqlite3 make run"


def _demo(field: str) -> Q:
    return Q(**{f"{field}__endswith": f"@{DOMAIN}"})


def _runs_here(node: Node) -> bool:
    """Whether the process of a node still exists. Its lease may outlive it by seconds."""
    if node.host != socket.gethostname():
        return True
    try:
        os.kill(node.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def clear() -> None:
    """Delete the rows of earlier demos. Users stay, so that a browser stays logged in."""
    with database.atomic():
        users: Any = get_user_model()._default_manager.filter(_demo("email"))
        AuditEntry.objects.filter(Q(user__in=users) | Q(user=None, actor_user__in=users)).delete()
        ManagerRecord.objects.filter(user__in=users).delete()
        RecoveryRun.objects.filter(user__in=users).delete()
        Refusal.objects.filter(user__in=users).delete()
        UserGate.objects.filter(user__in=users).delete()
        for user in users:
            user.conversations.all().delete()
        # A node of an earlier demo stays if it still has managers of a superuser.
        used = ManagerRecord.objects.filter(node=OuterRef("pk"))
        Node.objects.filter(~Exists(used), name__in=NODES).delete()
    _end_sessions()


def _end_sessions() -> None:
    stale = [
        session.pk
        for session in Session.objects.filter(expire_date__gt=database.now())
        if _MARK in session.get_decoded()
    ]
    Session.objects.filter(pk__in=stale).delete()


def make_people() -> dict[str, Any]:
    """Make or update the users of `people.PEOPLE`, with the demo's password. Return them by name."""
    model = get_user_model()
    groups = {group.name: group for group in Group.objects.all()}
    with database.atomic():
        known = {user.get_username(): user for user in model._default_manager.filter(_demo("email"))}
        good = {password for password in {user.password for user in known.values()} if _is_ours(password)}
        password = good.pop() if good else make_password(PASSWORD)  # one hash for all, since hashing is slow on purpose
        made: dict[str, Any] = {}
        for person in PEOPLE:
            user = known.get(person.name) or model(username=person.name, email=person.email)
            if user.password not in {password, *good}:
                user.password = password
            user.is_active = not person.disabled
            user.is_staff = bool(person.group)
            user.is_superuser = False
            user.save()
            user.groups.set([groups[person.group]] if person.group else [])
            user.user_permissions.clear()
            made[person.name] = user
    for person in PEOPLE:
        if person.soft_limit is not None:
            actions.set_limit(
                made[person.name],
                POOL,
                person.soft_limit,
                reason="Shares an account with a script",
                actor=Actor.staff(made["lead"]),
            )
    return made


def _is_ours(password: str) -> bool:
    return check_password(PASSWORD, password)


@contextmanager
def sessions(users: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Log in each active user, and yield the cookie values by username. The sessions end with the block."""
    stores: dict[str, SessionStore] = {}
    for name, user in users.items():
        if not user.is_active:
            continue
        store = SessionStore()
        store[SESSION_KEY] = str(user.pk)
        store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
        store[HASH_SESSION_KEY] = user.get_session_auth_hash()
        store[_MARK] = True
        store.set_expiry(timedelta(days=_SESSION_DAYS))
        store.create()
        stores[name] = store
    try:
        yield {name: str(store.session_key) for name, store in stores.items()}
    finally:
        for store in stores.values():
            store.delete()
