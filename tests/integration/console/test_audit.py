"""The audit trail: filters, pages, and the file for a spreadsheet."""

import csv
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from django.urls import reverse

from connections import database
from connections.models import AuditEntry
from connections.policy.states import ActorKind
from console.views.audit import harmless
from tests.support import rows
from tests.support.clients import run


def entry(number: int = 0, **fields: Any) -> AuditEntry:
    defaults: dict[str, Any] = {
        "at": database.now() - timedelta(minutes=number),
        "actor_kind": ActorKind.STAFF,
        "actor": "lead",
        "action": "cleanup",
        "reason": f"reason-{number:03}",
    }
    return AuditEntry.objects.create(**defaults | fields)


def reasons(client: Client, **query: str) -> list[str]:
    response = client.get("/console/audit/", query)
    assert response.status_code == 200
    return [found.reason for found in response.context["found"].entries]


def test_the_latest_come_first(lead: Client) -> None:
    for number in (2, 0, 1):
        entry(number)
    assert reasons(lead) == ["reason-000", "reason-001", "reason-002"]


def test_the_filters(lead: Client, ada: User) -> None:
    entry(1, action="reset", user=ada, user_label="ada")
    entry(2, actor_kind=ActorKind.COMMAND, actor="command line")
    entry(3, target="web-1", outcome="asked to drain")
    entry(60 * 48)
    assert reasons(lead, action="reset") == ["reason-001"]
    assert reasons(lead, q="ADA") == ["reason-001"]
    assert reasons(lead, q="to drain") == ["reason-003"]
    assert reasons(lead, actor_kind="command") == ["reason-002"]
    day = (database.now() - timedelta(hours=48)).date().isoformat()
    assert reasons(lead, since=day, until=day) == ["reason-2880"]


def test_an_invalid_filter_is_ignored(lead: Client) -> None:
    entry()
    assert reasons(lead, since="yesterday", actor_kind="cat", cursor="x") == ["reason-000"]


def test_the_pages_join_without_a_gap_or_a_repeat(lead: Client) -> None:
    moment = database.now()
    made = [entry(0, at=moment, reason=f"{number}").reason for number in range(120)]
    seen: list[str] = []
    query: dict[str, str] = {}
    for _ in range(5):
        found = lead.get("/console/audit/", query).context["found"]
        seen += [each.reason for each in found.entries]
        if not found.next_cursor:
            break
        query = {"cursor": found.next_cursor}
    assert seen == made[::-1]


def download(user: User, **query: str) -> tuple[dict[str, str], list[list[str]]]:
    async def get() -> tuple[dict[str, str], str]:
        client = AsyncClient()
        await client.aforce_login(user)
        response: Any = await client.get(reverse("console:audit_csv"), query)
        assert response.status_code == 200
        body = b"".join([chunk async for chunk in response])
        return dict(response.headers), body.decode()

    headers, text = run(get())
    return headers, list(csv.reader(StringIO(text)))


@pytest.mark.django_db(transaction=True)
class TestFile:
    @pytest.fixture
    def lead_user(self) -> User:
        from importlib import import_module

        from django.apps import apps
        from django.db import connection

        # A transactional test starts with empty tables, so the groups of the migration are made again.
        migration = import_module("console.migrations.0001_groups")
        with connection.schema_editor() as editor:
            migration.make_groups(apps, editor)
        return rows.make_staff(rows.LEAD)

    def test_the_file_has_all_entries_of_the_filter(self, lead_user: User) -> None:
        for number in range(1203):
            entry(number)
        entry(0, action="reset")
        headers, table = download(lead_user, action="cleanup")
        assert headers["Content-Type"] == "text/csv; charset=utf-8"
        assert headers["Content-Disposition"].startswith('attachment; filename="audit-')
        assert table[0][:3] == ["at", "actor_kind", "actor"]
        assert [line[8] for line in table[1:]] == [f"reason-{number:03}" for number in range(1203)]

    def test_no_cell_is_a_formula(self, lead_user: User) -> None:
        entry(0, reason='=HYPERLINK("http://evil")', target="+1", outcome="@SUM(A1)", actor="-2")
        _, table = download(lead_user)
        assert all(cell[:1] not in "=+@-" for cell in table[1] if cell)
        assert table[1][8] == '\'=HYPERLINK("http://evil")'


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "  =1"])
def test_a_cell_that_a_spreadsheet_would_run_as_a_formula_is_made_text(cell: str) -> None:
    assert harmless(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["a=b", "ada", "", "1 - 2"])
def test_other_cells_stay_unchanged(cell: str) -> None:
    assert harmless(cell) == cell
    assert harmless(None) == ""
