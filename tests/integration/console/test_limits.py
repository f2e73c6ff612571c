"""Setting and clearing the limit of one user."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client

from connections import database
from connections.models import AuditEntry, UserGate
from console.forms import parse_duration
from tests.support import rows
from tests.support.staff import HTMX


def give(**changes: str) -> dict[str, str]:
    return {"pool": "chat", "soft_limit": "7", "expires_in": "", "reason": "big family"} | changes


def test_a_limit_is_set_with_who_and_why(lead: Client, ada: User) -> None:
    response = lead.post(f"/console/users/{ada.pk}/limit/", give(expires_in="2h"))
    assert response.status_code == 303
    assert response.headers["Location"] == f"/console/users/{ada.pk}/"
    gate = UserGate.objects.get()
    assert (gate.soft_limit, gate.pool, gate.set_by, gate.reason) == (7, "chat", "lead", "big family")
    assert gate.expires_at is not None
    assert abs(gate.expires_at - database.now() - timedelta(hours=2)) < timedelta(seconds=20)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.user, entry.ip) == ("set_limit", ada, "127.0.0.1")
    text = lead.get(f"/console/users/{ada.pk}/").content.decode()
    assert "The limit in chat is now 7." in text
    assert "/ 7</span> held" in text
    assert "set by lead, ends" in text


def test_clearing_the_limit_restores_the_default(lead: Client, ada: User) -> None:
    rows.make_gate(ada, soft_limit=7)
    lead.post(f"/console/users/{ada.pk}/limit/", give(soft_limit="", clear="1"))
    assert UserGate.objects.get().soft_limit is None
    assert "/ 20</span> held" in lead.get(f"/console/users/{ada.pk}/").content.decode()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"soft_limit": "0"}, "greater than or equal to 1"),
        ({"soft_limit": "-3"}, "greater than or equal to 1"),
        ({"soft_limit": "many"}, "Enter a whole number"),
        ({"soft_limit": "999999999999"}, "less than or equal to"),
        ({"soft_limit": ""}, "Enter a limit of 1 or more"),
        ({"expires_in": "tomorrow"}, "Write it as 90s, 15m, 2h or 7d."),
        ({"expires_in": "0s"}, "Write it as"),
        ({"expires_in": "999999d"}, "At most ten years"),
        ({"pool": ""}, "required"),
        ({"reason": ""}, "Say why"),
    ],
)
def test_an_invalid_form_says_why_and_changes_nothing(
    lead: Client, ada: User, changes: dict[str, str], error: str
) -> None:
    for headers in ({}, HTMX):
        response = lead.post(f"/console/users/{ada.pk}/limit/", give(**changes), headers=headers)
        assert response.status_code == 422
        assert error in response.content.decode()
    assert not UserGate.objects.filter(soft_limit__isnull=False).exists()


def test_htmx_gets_the_form_and_the_facts_are_read_again(lead: Client, ada: User) -> None:
    response = lead.post(f"/console/users/{ada.pk}/limit/", give(), headers=HTMX)
    assert response.status_code == 200
    assert "facts-changed" in response.headers["HX-Trigger"]
    assert "The limit in chat is now 7." in response.content.decode()


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("7d", 604800), (" 2 H ", 7200)]
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "1.5h", "5 weeks", "٣m\n;", "0d"])
def test_an_invalid_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Write it as"):
        parse_duration(text)
