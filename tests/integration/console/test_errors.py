"""Answers when an action fails."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from connections.models import AuditEntry, ManagerRecord, Node, RecoveryRun, UserGate
from tests.support import rows
from tests.support.bad_rows import no_run_for, refused, unwritable
from tests.support.staff import HTMX

pytestmark = pytest.mark.django_db
FORMS: dict[str, dict[str, str]] = {
    "check": {},
    "recover": {"reason": "why"},
    "reset": {"reason": "why", "confirm": "ada"},
    "limit": {"reason": "why", "pool": "chat", "soft_limit": "5"},
}


def outcomes() -> list[tuple[str, str]]:
    return list(AuditEntry.objects.order_by("pk").values_list("action", "outcome"))


@pytest.mark.parametrize(("verb", "action"), [("check", "check"), ("recover", "cleanup"), ("reset", "reset")])
def test_a_recovery_that_fails_is_told_and_audited(lead: Client, ada: User, verb: str, action: str) -> None:
    with no_run_for(ada):
        response = lead.post(f"/console/users/{ada.pk}/{verb}/", FORMS[verb])
    assert response.status_code == 500
    assert response.headers["Cache-Control"].startswith("max-age=0")
    text = response.content.decode()
    assert "<h1>The action failed</h1>" in text
    assert "The action failed: bad row." in text
    assert outcomes() == [(action, "failed: bad row")]
    assert not RecoveryRun.objects.exists()


@pytest.mark.parametrize("htmx", [False, True])
def test_every_other_action_that_fails_is_told_and_audited(lead: Client, ada: User, htmx: bool) -> None:
    rows.make_gate(ada)
    record = rows.make_record(ada, rows.make_node())
    answers = []

    def post(path: str, **given: str) -> None:
        answers.append(lead.post(path, {"reason": "why"} | given, headers=HTMX if htmx else None))

    with unwritable(record):
        post(f"/console/managers/{record.pk}/close/")
    with refused(UserGate, "UPDATE", "1 = 1"):
        post(f"/console/users/{ada.pk}/limit/", **FORMS["limit"])
    with refused(Node, "UPDATE OF drain_wanted_at", "1 = 1"):
        post(f"/console/nodes/{record.node_id}/drain/")
    assert [answer.status_code for answer in answers] == [500] * 3
    for answer in answers:
        text = answer.content.decode()
        assert "The action failed: bad row." in text
        assert text.startswith('<p class="notice error"') is htmx
    assert outcomes() == [(action, "failed: bad row") for action in ("close_manager", "set_limit", "drain_node")]
    assert ManagerRecord.objects.counted().get() == record


def test_a_missing_and_a_forbidden_page_get_djangos_own_answer(support: Client, ada: User) -> None:
    assert support.post("/console/users/999999/recover/", {"reason": "x"}).status_code == 404
    assert support.post(f"/console/users/{ada.pk}/reset/", {"reason": "x"}).status_code == 403


def test_an_exception_in_a_page_is_not_reported_as_a_failed_action(
    support: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.views.runs.recent_runs", lambda shown: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        support.get("/console/runs/")


class TestBulk:
    @pytest.fixture
    def people(self) -> list[User]:
        return [rows.make_user(name) for name in ("ada", "bob", "cyd")]

    @pytest.fixture
    def ask(self, support: Client, people: list[User]) -> Callable[..., Any]:
        def ask(**options: Any) -> Any:
            given = {"user_ids": [user.pk for user in people], "reason": "storm"}
            return support.post("/console/users/recover/", given, **options)

        return ask

    def test_after_one_failure_the_others_are_recovered(
        self, support: Client, people: list[User], ask: Callable[..., Any]
    ) -> None:
        ada, bob, cyd = people
        with no_run_for(bob):
            assert ask().status_code == 303
        assert set(RecoveryRun.objects.values_list("user_id", flat=True)) == {ada.pk, cyd.pk}
        assert dict(AuditEntry.objects.values_list("user_label", "outcome")) == {
            "ada": "opened",
            "bob": "failed: bad row",
            "cyd": "opened",
        }
        text = support.get("/console/runs/").content.decode()
        assert '<p class="notice error">2 recoveries opened. 1 failed: bob.</p>' in text

    def test_htmx_gets_the_users_whose_recovery_failed(self, people: list[User], ask: Callable[..., Any]) -> None:
        with no_run_for(people[0]):
            text = ask(headers=HTMX).content.decode()
        assert '<div class="notice error"' in text
        assert "<p>1 failed: ada.</p>" in text
