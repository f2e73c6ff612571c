"""The log-in page, and the way back from it."""

import pytest
from django.test import Client

from tests.support import rows

pytestmark = pytest.mark.django_db


def test_logging_in_leads_on_to_the_page_that_was_asked_for() -> None:
    rows.make_staff(rows.SUPPORT, "support")
    client = Client()
    page = client.get("/console/users/?q=ada", follow=True)
    assert b"Log in" in page.content
    response = client.post(
        page.request["PATH_INFO"] + "?" + page.request["QUERY_STRING"],
        {
            "username": "support",
            "password": "demo",
            "next": page.context["next"],
        },
    )
    assert response.status_code == 302
    assert response.headers["Location"] == "/console/users/?q=ada"


@pytest.mark.parametrize("group", [rows.VIEWER, rows.SUPPORT, rows.LEAD])
def test_staff_who_asked_for_no_page_land_on_the_console(group: str) -> None:
    rows.make_staff(group, "support")
    answer = Client().post("/accounts/login/", {"username": "support", "password": "demo"})
    assert answer.headers["Location"] == "/console/"


@pytest.mark.parametrize("is_staff", [False, True])
def test_end_users_land_on_the_chat(is_staff: bool) -> None:
    rows.make_user("ada", is_staff=is_staff)
    assert Client().post("/accounts/login/", {"username": "ada", "password": "demo"}).headers["Location"] == "/"


def test_a_wrong_password_gives_an_error_and_keeps_the_username() -> None:
    rows.make_user("ada")
    text = Client().post("/accounts/login/", {"username": "ada", "password": "no"}).content.decode()
    assert 'role="alert"' in text
    assert 'value="ada"' in text
    assert "correct username and password" in text


def test_the_log_in_never_redirects_to_another_site() -> None:
    rows.make_user("ada")
    given = {"username": "ada", "password": "demo", "next": "https://evil.example/"}
    assert Client().post("/accounts/login/", given).headers["Location"] == "/"


def test_logging_out_is_a_post(viewer: Client) -> None:
    assert viewer.get("/accounts/logout/").status_code == 405
    assert viewer.post("/accounts/logout/").headers["Location"] == "/accounts/login/"
    assert viewer.get("/console/").status_code == 302


def test_pages_hold_no_inline_script_or_style(lead: Client) -> None:
    node = rows.make_node()
    ada = rows.make_user("ada")
    rows.make_records(2, ada, node)
    rows.closed_record(ada, node)
    run = rows.make_run(ada)
    paths = ["", "users/", f"users/{ada.pk}/", f"runs/{run.pk}/", "runs/", "nodes/", "audit/"]
    for path in paths:
        text = lead.get(f"/console/{path}").content.decode()
        assert "<script>" not in text
        assert "<style" not in text
        assert " style=" not in text
        assert " onclick=" not in text
        assert "hx-on" not in text
