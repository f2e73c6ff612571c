"""Helpers for tests of the Django admin: the addresses of its lists, the rows that a list shows, and rows to show."""

from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from connections.models import Refusal, RunStep
from connections.policy.actor import Actor
from connections.policy.states import Refused, RunKind, Step
from connections.records.audit import AuditedAction
from tests.support import rows


def list_url(model: str, query: str = "") -> str:
    return f"/admin/connections/{model}/{query}"


def listed_keys(client: Client, model: str, query: str = "") -> set[Any]:
    """Return the primary keys of the rows that the admin's list shows."""
    response = client.get(list_url(model, query))
    assert response.status_code == 200, response.content
    return {row.pk for row in response.context["cl"].result_list}


def make_rows(count: int) -> None:
    """Make `count` rows of every model, each with a user and a node of its own."""
    offset = User.objects.count()
    for number in range(offset, offset + count):
        user = rows.make_user(f"user{number}")
        node = rows.make_node(f"web-{number}")
        rows.make_record(user, node)
        rows.make_gate(user, soft_limit=5)
        run = rows.make_run(user, kind=RunKind.RESET)
        RunStep.objects.create(run=run, step=Step.TAKE_STOCK, at=timezone.now())
        Refusal.objects.create(user=user, node=node, cause=Refused.RATE_LIMITED, at=timezone.now())
        AuditedAction(Actor.staff(user), "cleanup", user, reason="x").done("opened", run=run)
