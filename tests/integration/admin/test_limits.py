"""Limits in the admin: set with a reason and an audit entry."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from connections.models import AuditEntry, UserGate
from tests.support import rows
from tests.support.admin import list_url
from tests.support.bad_rows import refused

pytestmark = pytest.mark.django_db


def limit_form(**fields: str) -> dict[str, str]:
    return {"soft_limit": "", "expires_at_0": "", "expires_at_1": "", "reason": "", **fields}


def test_a_limit_is_set_with_a_reason_and_audit_and_cleared_again(lead: Client) -> None:
    gate = rows.make_gate(rows.make_user("ada"))
    address = list_url("usergate", f"{gate.pk}/change/")
    later = timezone.now() + timedelta(days=2)
    expiry = {"expires_at_0": f"{later:%Y-%m-%d}", "expires_at_1": f"{later:%H:%M:%S}"}
    lead.post(address, limit_form(soft_limit="50", reason="a class of hers", **expiry))
    gate.refresh_from_db()
    assert (gate.soft_limit, gate.reason, gate.set_by) == (50, "a class of hers", "lead")
    assert gate.expires_at == later.replace(microsecond=0)
    lead.post(address, limit_form(reason="class is over"))
    assert not UserGate.objects.exclude(soft_limit=None, expires_at=None).exists()
    entries = AuditEntry.objects.filter(action="set_limit", user=gate.user, actor="lead").order_by("pk")
    assert [(entry.reason, entry.outcome.split()[0]) for entry in entries] == [
        ("a class of hers", "50"),
        ("class is over", "cleared"),
    ]


def test_a_limit_that_can_not_be_set_is_in_the_audit_trail(lead: Client) -> None:
    gate = rows.make_gate(rows.make_user("ada"))
    lead.raise_request_exception = False
    with refused(UserGate, "UPDATE", "1 = 1"):
        answer = lead.post(list_url("usergate", f"{gate.pk}/change/"), limit_form(soft_limit="50", reason="a class"))
    assert answer.status_code == 500
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.user, entry.reason, entry.outcome) == (
        "set_limit",
        gate.user,
        "a class",
        "failed: bad row",
    )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"soft_limit": "5"}, "reason"),
        ({"soft_limit": "5", "reason": "  "}, "reason"),
        ({"soft_limit": "0", "reason": "x"}, "soft_limit"),
        ({"soft_limit": "-1", "reason": "x"}, "soft_limit"),
        ({"soft_limit": "many", "reason": "x"}, "soft_limit"),
        ({"soft_limit": "1000000000000", "reason": "x"}, "soft_limit"),
        ({"soft_limit": "5", "reason": "x", "expires_at_0": "2001-01-01", "expires_at_1": "0:00"}, "expires_at"),
        ({"reason": "x", "expires_at_0": "2999-01-01", "expires_at_1": "0:00"}, "soft_limit"),
    ],
)
def test_an_invalid_limit_changes_nothing(fields: dict[str, str], field: str, lead: Client) -> None:
    gate = rows.make_gate(rows.make_user("ada"), soft_limit=7, reason="as before")
    page = lead.post(list_url("usergate", f"{gate.pk}/change/"), limit_form(**fields))
    assert field in page.context["adminform"].form.errors
    gate.refresh_from_db()
    assert (gate.soft_limit, gate.reason) == (7, "as before")
    assert not AuditEntry.objects.exists()


def test_staff_without_the_right_see_limits_and_may_not_change_them(support: Client) -> None:
    gate = rows.make_gate(rows.make_user("ada"), soft_limit=7)
    address = list_url("usergate", f"{gate.pk}/change/")
    assert support.get(address).status_code == 200
    assert support.post(address, limit_form(soft_limit="50", reason="please")).status_code == 403
    gate.refresh_from_db()
    assert gate.soft_limit == 7
