"""The lease of a node that does not work: it is not renewed, but its row is looked at all the same."""

from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from django.utils import timezone

from connections.conf import Tunables
from connections.models import Node
from connections.node.lease_keeper import LeaseKeeper
from connections.node.parts import Identity
from connections.policy.states import CloseReason
from tests.support.rows import make_node

pytestmark = pytest.mark.django_db


class Stage:
    """A lease keeper of a node with one client, with a switch for whether the node works."""

    def __init__(self, row: Node) -> None:
        self.works = True
        self.registered: list[UUID] = []
        self.closed: list[CloseReason] = []
        self.identity = Identity(row.name, id=row.pk)
        manager = SimpleNamespace(id=row.pk)
        parts = SimpleNamespace(
            identity=self.identity,
            tunables=Tunables(),
            registry=SimpleNamespace(all=lambda: [manager], __len__=lambda: 1),
            writer=SimpleNamespace(node_id=row.pk),
            order_close=lambda manager, reason, evidence: self.closed.append(reason),
            call=lambda function, *arguments: function(*arguments),
        )
        self.keeper = LeaseKeeper(
            cast("Any", parts),
            works=lambda: self.works,
            on_registered=self.registered.append,
            on_drain_wanted=lambda: None,
        )


def test_a_node_that_does_not_work_keeps_its_row_unrenewed() -> None:
    row = make_node()
    stage = Stage(row)
    stage.works = False
    stage.keeper.round()
    assert Node.objects.get(pk=row.pk).renewed_at == row.renewed_at
    assert (stage.identity.id, stage.closed) == (row.pk, [])


def test_a_fenced_node_that_does_not_work_learns_it_and_registers_once_it_works() -> None:
    row = make_node()
    stage = Stage(row)
    stage.works = False
    Node.objects.filter(pk=row.pk).update(fenced_at=timezone.now())
    stage.keeper.round()
    assert stage.closed == [CloseReason.NODE_LOST]
    assert stage.identity.id is None
    stage.keeper.round()
    assert stage.registered == [], "a node that does not work takes no lease"
    stage.works = True
    stage.keeper.round()
    assert stage.registered == [stage.identity.id]
    assert stage.identity.id not in (None, row.pk)
