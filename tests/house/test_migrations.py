"""Migrations hold to "add, deploy, remove": nodes of the release before go on working on a migrated database."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import models
from django.db.migrations import operations as ops
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.migration import Migration
from django.db.migrations.state import ProjectState
from django.db.models import NOT_PROVIDED

from tests.support.processes import ROOT

OURS = ("connections", "chat", "console")
BEFORE_ANY_RELEASE = {"chat.0004_message_steps"}  # no release has the table without its column
RENAMES = (ops.RenameField, ops.RenameModel, ops.AlterModelTable)
REMOVALS = (ops.RemoveField, ops.DeleteModel)
(VERSION,) = re.findall(r'^version = "([\d.]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


def number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def faults(migration: Any, state: ProjectState) -> Iterator[str]:
    """What nodes of the release before would fail by. A migration that removes something says in `unused_since` in
    which release the code stopped using it: an earlier one, so that no node that uses it is left.
    """
    since = getattr(migration, "unused_since", VERSION)
    for operation in migration.operations:
        name = f"{type(operation).__name__} {getattr(operation, 'name', getattr(operation, 'old_name', ''))}"
        if isinstance(operation, RENAMES):
            yield f"{name}: the older nodes use the old name"
        elif isinstance(operation, REMOVALS) and number(since) >= number(VERSION):
            yield f"{name}: the older nodes may still use it; `unused_since` names no earlier release"
        elif isinstance(operation, ops.AddField) and not may_be_left_out(operation.field):
            yield f"{name}: the older nodes insert rows without it; give it null or db_default"
        elif isinstance(operation, ops.AlterField):
            before = state.models[migration.app_label, operation.model_name_lower].fields[operation.name]
            yield from (f"{name}: {why}" for why in narrowed(before, operation.field))
        operation.state_forwards(migration.app_label, state)


def may_be_left_out(field: "models.Field[Any, Any]") -> bool:
    """Whether an INSERT that does not know the column leaves a valid row."""
    return field.null or field.many_to_many or field.db_default is not NOT_PROVIDED or field.generated


def narrowed(before: "models.Field[Any, Any]", after: "models.Field[Any, Any]") -> Iterator[str]:
    if before.null and not after.null and after.db_default is NOT_PROVIDED:
        yield "the older nodes leave it empty"
    if before.get_internal_type() != after.get_internal_type():
        yield "the older nodes write the old type"
    elif after.max_length is not None and (before.max_length is None or after.max_length < before.max_length):
        yield "the older nodes write longer values"


def our_migrations() -> list[tuple[str, Any, ProjectState]]:
    """All but the first one of each application, each with the state before it."""
    loader = MigrationLoader(None)
    return [
        (f"{app}.{name}", migration, loader.project_state((app, name), at_end=False))
        for (app, name), migration in sorted(loader.disk_migrations.items())
        if app in OURS and not migration.initial and f"{app}.{name}" not in BEFORE_ANY_RELEASE
    ]


@pytest.mark.parametrize(("migration", "state"), [pytest.param(m, s, id=name) for name, m, s in our_migrations()])
def test_the_release_before_goes_on_working_on_the_migrated_database(migration: Any, state: ProjectState) -> None:
    assert list(faults(migration, state)) == []


def migration_of(operation: Any, **attributes: Any) -> Any:
    made: Any = Migration("0099_test", "connections")
    made.operations = [operation]
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


CHAR = models.CharField(max_length=20)
BAD = [
    ops.AddField("node", "zone", models.CharField(max_length=20)),
    ops.AddField("node", "zone", models.CharField(max_length=20, default="")),
    ops.RemoveField("node", "host"),
    ops.RenameField("node", "host", "machine"),
    ops.RenameModel("node", "server"),
    ops.DeleteModel("refusal"),
    ops.AlterField("managerrecord", "device", models.UUIDField()),
    ops.AlterField("managerrecord", "close_reason", models.CharField(max_length=10, blank=True)),
    ops.AlterField("node", "pid", models.CharField(max_length=20)),
]
GOOD = [
    ops.AddField("node", "zone", models.CharField(max_length=20, null=True)),
    ops.AddField("node", "zone", models.CharField(max_length=20, db_default="")),
    ops.AlterField("managerrecord", "close_reason", models.CharField(max_length=40, blank=True)),
    ops.AddIndex("node", models.Index(fields=["host"], name="node_by_host")),
]


def named(operation: Any) -> str:
    return str(operation.describe())


@pytest.fixture(scope="module")
def today() -> ProjectState:
    loader = MigrationLoader(None)
    return loader.project_state()


@pytest.mark.parametrize("operation", BAD, ids=named)
def test_a_change_that_older_nodes_can_not_live_with_is_found(operation: Any, today: ProjectState) -> None:
    assert len(list(faults(migration_of(operation), today.clone()))) == 1


@pytest.mark.parametrize("operation", GOOD, ids=named)
def test_a_change_that_older_nodes_do_not_notice_is_let_through(operation: Any, today: ProjectState) -> None:
    assert list(faults(migration_of(operation), today.clone())) == []


def test_what_an_earlier_release_stopped_using_may_be_removed() -> None:
    removal = ops.RemoveField("node", "host")
    loader = MigrationLoader(None)
    assert list(faults(migration_of(removal, unused_since="0.0.1"), loader.project_state())) == []
