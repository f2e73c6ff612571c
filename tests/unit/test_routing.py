"""Every read of our models goes to the database that is written to, whatever a project's routers read from."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import connections
from pytest_django import Settings

from connections.database.requirements import check_databases
from connections.models import ManagerRecord, Node, RecoveryRun, RunStep, routing
from connections.models.querysets import OurQuerySet

MODELS: list[Any] = [*apps.get_app_config("connections").get_models(), *apps.get_app_config("chat").get_models()]


@pytest.fixture(autouse=True)
def reads_from_a_replica(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.DATABASE_ROUTERS = ["tests.support.routers.PrimaryReplicaRouter"]
    monkeypatch.setitem(connections.settings, "replica", connections.settings["default"])
    yield
    if "replica" in {connection.alias for connection in connections.all(initialized_only=True)}:
        del connections["replica"]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_managers_foreign_keys_and_refreshes_read_from_the_primary(model: Any) -> None:
    for manager in (model._default_manager, model._base_manager):
        assert isinstance(manager.all(), OurQuerySet)
        assert manager.db_manager(hints={"instance": model()}).all().db == "default"


RELATED: list[Callable[[], Any]] = [
    lambda: RecoveryRun().steps.order_by("pk"),
    lambda: Node(name="web-1").records.order_by("pk"),
    lambda: get_user_model()(pk=1).recovery_runs.order_by("pk"),
    lambda: RunStep.run.get_queryset(instance=RunStep()),
    lambda: ManagerRecord.node.get_queryset(instance=ManagerRecord()),
    routing.users,
]


@pytest.mark.parametrize("related", RELATED)
def test_relations_and_users_are_read_from_the_primary(related: Callable[[], Any]) -> None:
    assert related().db == "default"


def test_the_users_themselves_are_the_projects_and_such_a_router_is_no_fault() -> None:
    assert get_user_model()._default_manager.all().db == "replica"
    assert routing.sessions_alias() == "default"
    assert [message.id for message in check_databases() if message.is_serious()] == []
