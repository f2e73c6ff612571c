"""The list of users: order, search, and pages that join without a gap."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from connections import database
from connections.models import ManagerRecord
from connections.policy.states import CloseReason, RecordState
from console.reports.usage import Fill
from console.reports.users import Sort, Status, find_users
from tests.support import rows
from tests.support.staff import HTMX

pytestmark = pytest.mark.django_db


def names(q: str = "", status: Status = Status.ALL, sort: Sort = Sort.PRESSURE) -> list[str]:
    found = find_users(q=q, status=status, sort=sort, after="", now=database.now())
    return [row.user.username for row in found.rows]


@pytest.fixture
def crowd() -> dict[str, User]:
    """ada idle, bob at a limit of 3, cid over the default, dan with many under a large limit, eve with one."""
    node = rows.make_node()
    people = {name: rows.make_user(name) for name in ("ada", "bob", "cid", "dan", "eve")}
    rows.make_gate(people["bob"], soft_limit=3)
    rows.make_gate(people["dan"], soft_limit=100)
    for name, count in (("bob", 3), ("cid", 21), ("dan", 40), ("eve", 1)):
        rows.make_records(count, people[name], node)
    return people


def test_users_nearest_their_limit_come_first_and_idle_ones_last(crowd: dict[str, User]) -> None:
    assert names() == ["cid", "bob", "dan", "eve", "ada"]


def test_users_are_sorted_by_managers_by_name_or_by_id(crowd: dict[str, User]) -> None:
    assert names(sort=Sort.HELD) == ["dan", "cid", "bob", "eve", "ada"]
    assert names(sort=Sort.USERNAME) == ["ada", "bob", "cid", "dan", "eve"]
    assert names(sort=Sort.ID) == ["ada", "bob", "cid", "dan", "eve"]


def test_a_limit_that_ran_out_no_longer_counts(crowd: dict[str, User]) -> None:
    crowd["bob"].gates.update(expires_at=database.now() - timedelta(seconds=1))
    assert names() == ["cid", "dan", "bob", "eve", "ada"]


def test_the_routes_limit_counts_where_the_user_has_none(crowd: dict[str, User]) -> None:
    rows.make_gate(crowd["eve"], route_soft_limit=1)
    assert names(status=Status.LIMIT) == ["cid", "bob", "eve"]


def test_closing_managers_are_held_but_take_no_slot(crowd: dict[str, User]) -> None:
    ManagerRecord.objects.filter(user=crowd["bob"]).update(
        state=RecordState.CLOSING, closing_at=database.now(), close_reason=CloseReason.RESET
    )
    row = find_users(q="bob", status=Status.ALL, sort=Sort.PRESSURE, after="", now=database.now()).rows[0]
    assert (row.usage.held, row.usage.counted, row.usage.fill) == (3, 0, Fill.OK)
    assert "bob" not in names(status=Status.LIMIT)


def test_the_filters(crowd: dict[str, User]) -> None:
    User.objects.filter(username="eve").update(is_active=False)
    assert names(status=Status.LIMIT) == ["cid", "bob"]
    assert names(status=Status.OVER) == ["cid"]
    assert names(status=Status.HOLDING) == ["cid", "bob", "dan", "eve"]
    assert names(status=Status.IDLE) == ["ada"]
    assert names(status=Status.DISABLED) == ["eve"]
    assert names(status=Status.LIMIT, sort=Sort.HELD) == ["cid", "bob"]


def test_search_by_part_of_the_name_by_email_and_by_id(crowd: dict[str, User]) -> None:
    User.objects.filter(username="dan").update(email="Daniel@corp.example")
    assert names("AD") == ["ada"]
    assert names("corp.example") == ["dan"]
    assert names(f"#{crowd['bob'].pk}") == ["bob"]
    assert names("#") == names("#x") == names("# 1'--") == names("nobody") == []


def test_a_search_for_id_1_does_not_find_id_10(crowd: dict[str, User]) -> None:
    ten = rows.make_user("ten", id=crowd["ada"].pk * 10)
    assert names(f"#{crowd['ada'].pk}") == ["ada"]
    assert names(f"#{ten.pk}") == ["ten"]


@pytest.mark.parametrize("sort", list(Sort))
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6])
def test_the_pages_join_without_a_gap_or_a_repeat(crowd: dict[str, User], sort: Sort, size: int) -> None:
    seen: list[str] = []
    after = ""
    for _ in range(10):
        found = find_users(q="", status=Status.ALL, sort=sort, after=after, now=database.now(), size=size)
        seen += [row.user.username for row in found.rows]
        if not (after := found.next_cursor):
            break
    assert seen == names(sort=sort)


@pytest.mark.parametrize("after", ["x", "e30", "WzEsMiwiYSJd", "W10", "WyJhIl0", "é"])
@pytest.mark.parametrize("sort", [Sort.PRESSURE, Sort.ID])
def test_an_invalid_cursor_shows_the_first_page(crowd: dict[str, User], sort: Sort, after: str) -> None:
    found = find_users(q="", status=Status.ALL, sort=sort, after=after, now=database.now())
    assert found.rows[0].user.username == names(sort=sort)[0]


def test_no_query_reads_closed_records(crowd: dict[str, User]) -> None:
    """Every query on records uses a partial index of the held records."""
    with CaptureQueriesContext(
        connection,
    ) as captured:
        find_users(q="", status=Status.LIMIT, sort=Sort.PRESSURE, after="", now=database.now())
    on_records = [query["sql"] for query in captured if "connections_managerrecord" in query["sql"]]
    assert on_records
    if connection.vendor == "sqlite":
        for sql in on_records:
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
                plan = [str(line[3]) for line in cursor.fetchall()]
            touching = [line for line in plan if "managerrecord" in line.lower() or " U0" in line or " V0" in line]
            assert touching
            assert not [line for line in plan if line.startswith("SCAN connections_managerrecord")], plan
            assert any("record_held_by_user" in line for line in plan), plan


def test_the_page_takes_the_same_few_queries_for_one_user_and_for_many(viewer: Client) -> None:
    node = rows.make_node()
    rows.make_records(2, rows.make_user("one"), node)
    with CaptureQueriesContext(connection) as few:
        viewer.get("/console/users/")
    for number in range(20):
        rows.make_records(2, rows.make_user(f"more-{number}"), node)
    with CaptureQueriesContext(connection) as many:
        viewer.get("/console/users/")
    assert len(many) == len(few)


def test_the_page_shows_counts_and_keeps_what_was_asked(viewer: Client, crowd: dict[str, User]) -> None:
    response = viewer.get("/console/users/", {"q": "b", "status": "limit", "sort": "held"})
    text = response.content.decode()
    assert "bob" in text
    assert "3 / 3 in chat" in text
    assert "at the limit" in text
    assert 'value="b"' in text
    assert '<option value="limit" selected>' in text


def test_invalid_query_parameters_are_ignored(viewer: Client, crowd: dict[str, User]) -> None:
    response = viewer.get("/console/users/", {"status": "x", "sort": "y", "cursor": "z", "q": "\x00%"})
    assert response.status_code == 200


def test_htmx_gets_the_fragment_and_a_history_request_gets_the_page(viewer: Client, crowd: dict[str, User]) -> None:
    part = viewer.get("/console/users/", headers=HTMX).content
    assert b"<html" not in part
    assert b"cid" in part
    back = viewer.get("/console/users/", headers=HTMX | {"HX-History-Restore-Request": "true"}).content
    assert b"<html" in back


def test_only_staff_who_may_recover_can_select_users(viewer: Client, support: Client, crowd: dict[str, User]) -> None:
    assert b'name="user_ids"' not in viewer.get("/console/users/").content
    assert b'name="user_ids"' in support.get("/console/users/").content


def test_a_username_is_never_markup(viewer: Client) -> None:
    rows.make_user("<script>alert(1)</script>")
    text = viewer.get("/console/users/").content.decode()
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text
