"""Check, preview, recover and reset: the runs that they open, their answers and refusals."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from connections import database
from connections.models import AuditEntry, ManagerRecord, Node, RecoveryRun
from connections.policy.states import CloseReason, Outcome, RecordState, RunKind
from connections.recovery.bulk import PACE_SECONDS
from tests.support import rows
from tests.support.staff import HTMX


def open_run(client: Client, user: User, verb: str, **given: str) -> RecoveryRun:
    response = client.post(f"/console/users/{user.pk}/{verb}/", {"reason": "can't connect"} | given)
    assert response.status_code == 303
    run = RecoveryRun.objects.get(user=user, finished_at=None)
    assert response.headers["Location"] == f"/console/runs/{run.pk}/"
    return run


def page_of(client: Client, run: RecoveryRun) -> str:
    """Get the page of a run, which also advances the run."""
    return " ".join(client.get(f"/console/runs/{run.pk}/").content.decode().split())


@pytest.fixture
def stuck(ada: User) -> list[ManagerRecord]:
    """Give ada 20 managers, 17 on a lost node and 3 on a living one; return these 3."""
    rows.make_records(17, ada, rows.lost_node())
    return rows.make_records(3, ada, rows.make_node())


def test_a_recovery_frees_dead_managers_and_reports_them(
    support: Client, ada: User, stuck: list[ManagerRecord]
) -> None:
    run = open_run(support, ada, "recover")
    assert run.reason == "can't connect"
    text = page_of(support, run)
    assert 'http-equiv="refresh"' in text
    rows.answer_roll_call(*stuck)
    RecoveryRun.objects.update(due_at=run.opened_at)
    text = page_of(support, run)
    assert 'http-equiv="refresh"' not in text
    assert 'hx-trigger="every 1s"' not in text
    assert '<span class="figure" title="held before">20</span>' in text
    assert '<span class="figure settled" title="held after">3</span>' in text
    assert "17 managers freed, 3 kept." in text
    assert text.count("<strong>freed</strong>") == 17
    assert text.count("<strong>kept</strong>") == 3
    assert "support (staff)" in text
    assert "ada has not connected again yet" in text
    assert set(ManagerRecord.objects.held()) == set(stuck)


def test_the_page_of_a_run_tells_of_the_next_handshake(support: Client, ada: User, stuck: list[ManagerRecord]) -> None:
    run = rows.make_run(ada, finished_at=stuck[0].opened_at, outcome=Outcome.RECOVERED, before=20, after=3, ago=90)
    rows.make_record(ada, stuck[0].node, age=200)
    later = rows.make_record(ada, stuck[0].node, age=88)
    text = page_of(support, run)
    assert "ada is connected again" in text
    assert f"{later.opened_at:%H:%M:%S}" in text
    assert "2.0 s after this was requested" in text


def test_the_page_looks_for_the_next_handshake_for_a_while(support: Client, ada: User) -> None:
    ended: dict[str, Any] = {"outcome": Outcome.RECOVERED, "before": 1, "after": 0}
    now = database.now()
    fresh = rows.make_run(ada, finished_at=now - timedelta(seconds=30), ago=31, **ended)
    assert 'hx-trigger="every 3s"' in page_of(support, fresh)
    old = rows.make_run(ada, finished_at=now - timedelta(minutes=11), ago=661, **ended)
    preview = rows.make_run(ada, finished_at=now, dry_run=True, **ended)
    assert "hx-trigger" not in page_of(support, old)
    assert "hx-trigger" not in page_of(support, preview)
    rows.make_record(ada, rows.make_node(), age=5)
    assert "hx-trigger" not in page_of(support, fresh)


def test_a_preview_names_the_dead_and_changes_nothing(support: Client, ada: User, stuck: list[ManagerRecord]) -> None:
    before = list(ManagerRecord.objects.order_by("pk").values("state", "close_reason", "closed_at"))
    run = open_run(support, ada, "recover", dry_run="1")
    assert run.dry_run
    page_of(support, run)
    rows.answer_roll_call(*stuck)
    RecoveryRun.objects.update(due_at=run.opened_at)
    text = page_of(support, run)
    assert text.count("<strong>would be freed</strong>") == 17
    assert "Recover user: free 17 managers, keep 3</button>" in text
    assert list(ManagerRecord.objects.order_by("pk").values("state", "close_reason", "closed_at")) == before
    assert Node.objects.filter(fenced_at=None).count() == 1


def test_a_check_is_a_preview_that_anyone_may_ask_for(viewer: Client, ada: User, stuck: list[ManagerRecord]) -> None:
    response = viewer.post(f"/console/users/{ada.pk}/check/")
    assert response.status_code == 303
    run = RecoveryRun.objects.get()
    assert run.dry_run
    assert run.reason == "Check from the console"
    page_of(viewer, run)
    rows.answer_roll_call(*stuck)
    RecoveryRun.objects.update(due_at=run.opened_at)
    text = page_of(viewer, run)
    assert "17 managers would be freed" in text
    assert "Recover user" not in text
    assert ManagerRecord.objects.held().count() == 20


def test_a_second_recovery_joins_the_open_run(
    support: Client, lead: Client, ada: User, stuck: list[ManagerRecord]
) -> None:
    run = open_run(support, ada, "recover")
    assert open_run(lead, ada, "recover", reason="me too") == run
    assert RecoveryRun.objects.count() == 1
    text = page_of(lead, run)
    assert "lead (staff) joined" in text
    assert "me too" in text
    assert "Your reason is added to it." in text


def test_a_recovery_from_a_stale_page_reports_nothing_to_do(support: Client, ada: User) -> None:
    run = open_run(support, ada, "recover")
    assert "Nothing to do" in page_of(support, run)


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501])
def test_without_a_reason_no_run_starts(lead: Client, ada: User, reason: str) -> None:
    for verb in ("recover", "reset", "limit"):
        given = {"reason": reason, "confirm": "ada", "pool": "chat", "soft_limit": "5"}
        response = lead.post(f"/console/users/{ada.pk}/{verb}/", given)
        assert response.status_code == 422
        text = response.content.decode()
        assert "<h1>ada</h1>" in text
        assert 'aria-invalid="true"' in text
        assert 'class="errorlist"' in text
    assert not RecoveryRun.objects.exists()
    assert not AuditEntry.objects.exists()


def test_htmx_gets_the_form_back_in_its_place(lead: Client, ada: User) -> None:
    response = lead.post(f"/console/users/{ada.pk}/recover/", {"reason": ""}, headers=HTMX)
    assert response.status_code == 422
    assert response.headers["HX-Retarget"] == "#recover-form"
    assert response.headers["HX-Reswap"] == "outerHTML"
    text = response.content.decode().strip()
    assert text.startswith('<form id="recover-form"')
    assert "Say why" in text


def test_the_form_under_a_preview_keeps_its_numbers(support: Client, ada: User, stuck: list[ManagerRecord]) -> None:
    run = open_run(support, ada, "recover", dry_run="1")
    page_of(support, run)
    rows.answer_roll_call(*stuck)
    RecoveryRun.objects.update(due_at=run.opened_at)
    page_of(support, run)
    given = {"reason": "", "preview": str(run.pk)}
    text = support.post(f"/console/users/{ada.pk}/recover/", given, headers=HTMX).content.decode()
    assert 'id="confirm-reason"' in text
    assert "free 17 managers, keep 3" in text


def test_htmx_gets_the_run_as_a_fragment_that_polls_until_it_ends(support: Client, ada: User) -> None:
    record = rows.make_record(ada, rows.make_node())
    response = support.post(f"/console/users/{ada.pk}/recover/", {"reason": "x"}, headers=HTMX)
    assert response.status_code == 200
    text = response.content.decode()
    assert "<html" not in text
    run = RecoveryRun.objects.get()
    poll = f"/console/runs/{run.pk}/?part=run"
    assert f'hx-get="{poll}" hx-trigger="every 1s"' in text
    assert b"hx-trigger" in support.get(poll, headers=HTMX).content
    rows.answer_roll_call(record)
    RecoveryRun.objects.update(due_at=run.opened_at)
    ended = support.get(poll, headers=HTMX)
    assert b'hx-trigger="every 1s"' not in ended.content
    assert "facts-changed" in ended.headers["HX-Trigger"]


def test_a_reset_needs_the_username_as_confirmation(lead: Client, ada: User, stuck: list[ManagerRecord]) -> None:
    for typed in ("", "Ada", "ada ", "grace"):
        response = lead.post(f"/console/users/{ada.pk}/reset/", {"reason": "start anew", "confirm": typed})
        assert response.status_code == 422
        text = response.content.decode()
        assert "Type ada to confirm." in text
        assert 'value="start anew"' in text
    assert not RecoveryRun.objects.exists()
    run = open_run(lead, ada, "reset", confirm="ada")
    assert run.kind == RunKind.RESET
    page_of(lead, run)
    assert not ManagerRecord.objects.counted().filter(user=ada).exists()
    closing = ManagerRecord.objects.filter(state=RecordState.CLOSING)
    assert set(closing) == set(stuck)
    assert set(closing.values_list("close_reason", flat=True)) == {CloseReason.RESET}


def test_an_invalid_reset_form_comes_back_unfolded_with_htmx(lead: Client, ada: User) -> None:
    given = {"reason": "x", "confirm": "no"}
    response = lead.post(f"/console/users/{ada.pk}/reset/", given, headers=HTMX)
    assert response.status_code == 422
    assert '<details class="disclosure" open>' in response.content.decode()


def test_an_action_for_one_user_touches_no_other(support: Client, ada: User, stuck: list[ManagerRecord]) -> None:
    other = rows.make_user("other", id=ada.pk * 10)
    rows.make_records(5, other, rows.lost_node("web-3"))
    run = open_run(support, ada, "recover")
    page_of(support, run)
    assert ManagerRecord.objects.held().filter(user=other).count() == 5


class TestBulk:
    def test_each_user_gets_a_run(self, support: Client) -> None:
        people = [rows.make_user(f"user-{number}") for number in range(3)]
        response = support.post("/console/users/recover/", {"user_ids": [p.pk for p in people], "reason": "incident"})
        assert response.status_code == 303
        assert response.headers["Location"] == "/console/runs/"
        assert set(RecoveryRun.objects.values_list("user_id", "reason")) == {(p.pk, "incident") for p in people}
        starts = [run.due_at - run.opened_at for run in RecoveryRun.objects.order_by("user_id")]
        assert starts == [timedelta(seconds=number * PACE_SECONDS) for number in range(3)]
        assert "3 recoveries opened." in support.get("/console/runs/").content.decode()

    def test_ids_may_come_in_one_field(self, support: Client, ada: User) -> None:
        bob = rows.make_user("bob")
        given = {"user_ids": f"{ada.pk},{bob.pk}, {ada.pk}", "reason": "x"}
        assert support.post("/console/users/recover/", given).status_code == 303
        assert RecoveryRun.objects.count() == 2

    def test_the_answer_counts_joined_runs_and_deleted_users(self, support: Client, ada: User) -> None:
        rows.make_run(ada)
        given = {"user_ids": [ada.pk, 987654, "x"], "reason": "x"}
        text = support.post("/console/users/recover/", given, headers=HTMX).content.decode()
        assert "0 recoveries opened." in text
        assert "1 joined one that was under way." in text
        assert "2 of the users no longer exist." in text

    @pytest.mark.parametrize(
        ("ids", "reason", "error"),
        [
            ([], "x", "Choose at least one user."),
            (range(1, 102), "x", "101 users are too many. Choose at most 100 at a time."),
            ([1], "", "Say why"),
        ],
    )
    def test_an_invalid_form_says_why_and_starts_nothing(
        self, support: Client, ada: User, ids: list[int], reason: str, error: str
    ) -> None:
        response = support.post("/console/users/recover/", {"user_ids": list(ids), "reason": reason})
        assert response.status_code == 422
        assert error in response.content.decode()
        assert not RecoveryRun.objects.exists()

    def test_the_selection_of_users_is_kept(self, support: Client, ada: User) -> None:
        text = support.post("/console/users/recover/", {"user_ids": [ada.pk], "reason": ""}).content.decode()
        assert f'value="{ada.pk}" aria-label="Choose ada" checked' in text

    def test_it_is_not_for_viewers(self, viewer: Client, ada: User) -> None:
        assert viewer.post("/console/users/recover/", {"user_ids": [ada.pk], "reason": "x"}).status_code == 403
        assert not RecoveryRun.objects.exists()
