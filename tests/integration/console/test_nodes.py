"""The page of the nodes, and the action that drains one."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client

from connections import database
from connections.models import AuditEntry
from tests.support import rows
from tests.support.staff import HTMX


def test_the_state_of_a_node_follows_from_its_lease(viewer: Client) -> None:
    now = database.now()
    rows.make_node("web-steady")
    rows.make_node("web-new", steady_since=now)
    rows.make_node("web-late", silent=5)
    rows.make_node("web-silent", silent=60)
    rows.make_node("web-going", drain_wanted_at=now)
    rows.make_node("web-gone", retired_at=now)
    rows.lost_node("web-lost")
    text = viewer.get("/console/nodes/").content.decode()
    for name, state in {
        "web-steady": "alive",
        "web-new": "alive",
        "web-late": "late",
        "web-silent": "lapsed",
        "web-going": "draining",
        "web-gone": "retired",
        "web-lost": "fenced",
    }.items():
        row = text[text.index(name) :]
        assert f'<span class="badge {state}">{state}</span>' in row[: row.index("</tr>")]


def test_a_lost_node_stays_at_the_top_while_it_holds_records(viewer: Client, ada: User) -> None:
    rows.make_records(4, ada, rows.lost_node("web-lost"))
    text = viewer.get("/console/nodes/").content.decode()
    assert "<h2>Ended</h2>" not in text
    assert '<td data-label="Managers">4</td>' in text


def test_a_drain_is_ordered_in_the_nodes_row(lead: Client) -> None:
    node = rows.make_node()
    response = lead.post(f"/console/nodes/{node.pk}/drain/", {"reason": "deploy"})
    assert response.status_code == 303
    assert response.headers["Location"] == "/console/nodes/"
    node.refresh_from_db()
    assert node.drain_wanted_at is not None
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.reason) == ("drain_node", "lead", "deploy")


def test_htmx_gets_the_row(lead: Client) -> None:
    node = rows.make_node()
    text = lead.post(f"/console/nodes/{node.pk}/drain/", {"reason": "x"}, headers=HTMX).content.decode().strip()
    assert text.startswith(f'<tr id="node-{node.pk}"')
    assert "The node is asked to drain." in text


def test_a_drain_of_a_node_that_is_gone_changes_nothing(lead: Client) -> None:
    node = rows.lost_node()
    text = lead.post(f"/console/nodes/{node.pk}/drain/", {"reason": "x"}, headers=HTMX).content.decode()
    assert "Nothing was done" in text
    node.refresh_from_db()
    assert node.drain_wanted_at is None


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_without_a_reason_the_node_is_not_drained(lead: Client, headers: dict[str, str]) -> None:
    node = rows.make_node()
    response = lead.post(f"/console/nodes/{node.pk}/drain/", {"reason": ""}, headers=headers)
    assert response.status_code == 422
    assert "Say why" in response.content.decode()
    node.refresh_from_db()
    assert node.drain_wanted_at is None


def test_the_drain_is_offered_only_for_nodes_that_can_be_drained(lead: Client, viewer: Client) -> None:
    node = rows.make_node()
    rows.make_node("command", serves=False)
    rows.make_node("going", drain_wanted_at=database.now() - timedelta(seconds=1))
    assert lead.get("/console/nodes/").content.decode().count('/drain/" hx-post') == 1
    assert f"/console/nodes/{node.pk}/drain/" in lead.get("/console/nodes/").content.decode()
    assert "/drain/" not in viewer.get("/console/nodes/").content.decode()
