"""The overview: its figures, and the users who need help."""

from datetime import timedelta

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from connections import database
from connections.models import Refusal
from connections.policy.states import CloseReason, RecordState, Refused
from console.reports.overview import read_overview
from tests.support import rows
from tests.support.staff import HTMX


def test_the_figures(ada: User) -> None:
    now = database.now()
    node, gone = rows.make_node(), rows.lost_node()
    rows.make_records(3, ada, node)
    rows.make_record(ada, node, overdue_since=now)
    rows.make_record(ada, node, state=RecordState.CLOSING, closing_at=now, close_reason=CloseReason.RESET)
    rows.make_records(2, rows.make_user("bob"), gone)
    rows.closed_record(ada, node, ago=60)
    rows.closed_record(ada, node, CloseReason.EVICTED, ago=60)
    rows.closed_record(ada, node, ago=2 * 3600)
    rows.make_run(ada)
    Refusal.objects.create(user=ada, cause=Refused.NODE_FULL, count=5, at=now)
    Refusal.objects.create(user=ada, cause=Refused.NODE_FULL, count=9, at=now - timedelta(hours=2))
    found = read_overview(database.now())
    assert (found.held, found.counted, found.closing, found.users) == (7, 6, 1, 2)
    assert found.doubtful == 3
    assert (found.nodes_serving, found.nodes_in_trouble) == (1, 1)
    assert (found.open_runs, found.refused) == (1, 5)
    assert dict(found.closed) == {CloseReason.CLIENT_CLOSED: 1, CloseReason.EVICTED: 1}
    assert sum(bar.count for bar in found.bars) == found.closed_total == 2


def test_the_overview_works_without_any_rows(viewer: Client) -> None:
    text = viewer.get("/console/").content.decode()
    assert "No user is at or over the limit." in text
    assert "No server yet." in text


def test_users_at_their_limit_are_named_and_linked(viewer: Client, ada: User) -> None:
    rows.make_gate(ada, soft_limit=2)
    rows.make_records(2, ada, rows.make_node())
    text = viewer.get("/console/").content.decode()
    assert f'<a href="/console/users/{ada.pk}/">ada</a>' in text
    assert "2 / 2 in chat" in text


def test_htmx_reads_the_live_part(viewer: Client) -> None:
    part = viewer.get("/console/?part=live", headers=HTMX).content
    assert b"<html" not in part
    assert b"users connected" in part


def test_closed_records_are_not_counted(ada: User) -> None:
    with CaptureQueriesContext(connection) as captured:
        read_overview(database.now())
    if connection.vendor != "sqlite":
        return
    for query in captured:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
            plan = [str(line[3]) for line in cursor.fetchall()]
        assert not [line for line in plan if line in ("SCAN connections_managerrecord", "SCAN connections_refusal")], (
            query["sql"],
            plan,
        )
