"""Database routers of projects that have more than one database."""

from typing import Any

OURS = {"connections", "chat", "console", "auth", "contenttypes", "admin"}


class PrimaryReplicaRouter:
    """The router of Django's documentation, with one replica, to the letter."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool | None:
        databases = {"default", "replica"}
        return True if {one._state.db, other._state.db} <= databases else None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return True


class SilentReplicaRouter(PrimaryReplicaRouter):
    """A router that says nothing about relations: then Django forbids those between two databases."""

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool | None:
        return None


class ElsewhereRouter:
    """The engine's tables and the users in a database of their own; sessions and the rest in the default one."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "engine" if model._meta.app_label in OURS else "default"

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return (db == "engine") == (app_label in OURS)


class UsersElsewhereRouter:
    """The users in another database than the engine's tables."""

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "engine" if model._meta.app_label in {"connections", "chat"} else "default"


class HalfElsewhereRouter:
    """The chat's tables in another database than those of connections."""

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "engine" if model._meta.app_label == "chat" else "default"
