"""Permissions: a request gets the log-in page, 404, 403 or the page."""

import uuid
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client

from connections.models import AuditEntry, ManagerRecord, RecoveryRun
from tests.support import rows
from tests.support.staff import HTMX

PAGES = [
    "/console/",
    "/console/users/",
    "/console/runs/",
    "/console/nodes/",
    "/console/audit/",
    "/console/audit.csv",
]
ACTIONS = ["check", "recover", "reset", "limit"]


@pytest.mark.django_db
@pytest.mark.parametrize("path", PAGES)
def test_somebody_who_is_not_logged_in_is_sent_to_the_log_in_page_and_back(path: str) -> None:
    response = Client().get(path)
    assert response.status_code == 302
    address = urlsplit(response.headers["Location"])
    assert address.path == "/accounts/login/"
    assert parse_qs(address.query) == {"next": [path]}


@pytest.mark.django_db
def test_a_poll_after_the_log_out_moves_the_whole_page_to_the_log_in_page() -> None:
    headers = HTMX | {"HX-Current-URL": "http://testserver/console/nodes/"}
    response = Client().get("/console/nodes/?part=nodes", headers=headers)
    assert response.status_code == 200
    assert response.headers["HX-Redirect"] == "/accounts/login/?next=%2Fconsole%2Fnodes%2F"
    assert response.content == b""


@pytest.mark.parametrize("path", PAGES)
def test_a_user_without_the_right_to_view_gets_404(path: str, end_user: Client) -> None:
    assert end_user.get(path).status_code == 404


@pytest.mark.parametrize("action", ACTIONS)
def test_without_the_right_to_view_a_user_looks_like_none(action: str, end_user: Client, ada: User) -> None:
    there = end_user.post(f"/console/users/{ada.pk}/{action}/", {"reason": "x"})
    nowhere = end_user.post(f"/console/users/987654/{action}/", {"reason": "x"})
    assert there.status_code == nowhere.status_code == 404
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("path", PAGES[:4])
def test_a_viewer_gets_the_pages(path: str, viewer: Client) -> None:
    response = viewer.get(path)
    assert response.status_code == 200
    assert "no-store" in response.headers["Cache-Control"]


@pytest.mark.parametrize("path", PAGES[4:])
def test_the_audit_trail_is_for_leads(path: str, support: Client, lead: Client) -> None:
    assert support.get(path).status_code == 403
    assert lead.get(path).status_code == 200


@pytest.mark.parametrize("action", ["recover", "reset", "limit"])
def test_a_viewer_who_acts_gets_403_and_an_audit_entry(action: str, viewer: Client, ada: User) -> None:
    given = {"reason": "let me", "confirm": "ada", "pool": "chat", "soft_limit": "3"}
    response = viewer.post(f"/console/users/{ada.pk}/{action}/", given)
    assert response.status_code == 403
    assert not RecoveryRun.objects.exists()
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.user, entry.reason) == ("denied", "viewer", ada, "let me")


def test_support_may_recover_but_not_reset_limit_or_drain(support: Client, ada: User) -> None:
    node = rows.make_node()
    given = {"reason": "let me", "confirm": "ada", "pool": "chat", "soft_limit": "3"}
    assert support.post(f"/console/users/{ada.pk}/reset/", given).status_code == 403
    assert support.post(f"/console/users/{ada.pk}/limit/", given).status_code == 403
    assert support.post(f"/console/nodes/{node.pk}/drain/", given).status_code == 403
    node.refresh_from_db()
    assert node.drain_wanted_at is None
    assert support.post(f"/console/users/{ada.pk}/recover/", given).status_code == 303


@pytest.mark.parametrize(
    "path",
    [
        "/console/users/987654/",
        "/console/users/somebody/",
        "/console/users/99999999999999999999999999/",
        f"/console/runs/{uuid.UUID(int=1)}/",
        "/console/runs/17/",
    ],
)
def test_a_page_of_an_unknown_row_is_404(path: str, lead: Client) -> None:
    assert lead.get(path).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/console/users/987654/recover/",
        "/console/users/x/reset/",
        f"/console/managers/{uuid.UUID(int=1)}/close/",
        f"/console/nodes/{uuid.UUID(int=1)}/drain/",
    ],
)
def test_an_action_on_an_unknown_row_is_404(path: str, lead: Client) -> None:
    assert lead.post(path, {"reason": "x"}).status_code == 404


def test_an_action_is_never_a_get(lead: Client, ada: User) -> None:
    record = rows.make_record(ada, rows.make_node())
    for path in (
        f"users/{ada.pk}/recover",
        f"users/{ada.pk}/reset",
        "users/recover",
        f"managers/{record.pk}/close",
    ):
        assert lead.get(f"/console/{path}/").status_code == 405
    assert ManagerRecord.objects.held().count() == 1


def test_a_post_without_a_token_changes_nothing(ada: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(rows.make_staff(rows.LEAD))
    response = client.post(f"/console/users/{ada.pk}/recover/", {"reason": "x"})
    assert response.status_code == 403
    assert b"Please try again" in response.content
    assert not RecoveryRun.objects.exists()


def test_the_navigation_shows_what_one_may_open(viewer: Client, lead: Client, end_user: Client) -> None:
    assert b"/console/audit/" not in viewer.get("/console/").content
    assert b"/console/audit/" in lead.get("/console/").content
    assert b'href="/console/"' not in end_user.get("/no-such-page/").content
