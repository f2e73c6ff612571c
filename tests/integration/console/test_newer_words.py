"""Pages, admin and commands show a word that only a newer version has as what it is."""

import json
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from connections import database
from connections.models import RecoveryRun, Refusal, RunStep
from connections.policy.states import CloseReason, Outcome, RecordState, RunKind, Step, Verdict
from connections.recovery.findings import report
from connections.recovery.inspection import diagnose_user
from console.reports.runs import run_view
from tests.support import rows

pytestmark = pytest.mark.django_db

REASON, VERDICT, KIND, STEP, OUTCOME = (
    CloseReason("blocked_by_network"),
    Verdict("asleep"),
    RunKind("unblock"),
    Step("compensate"),
    Outcome("deferred"),
)


def text_of(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def newer_run(user: User, **fields: Any) -> RecoveryRun:
    run = rows.make_run(user, step=STEP, **fields)
    for step in (Step.TAKE_STOCK, Step.ROLL_CALL, STEP):
        RunStep.objects.create(run=run, step=step, at=database.now(), detail=f"did {step}")
    return run


def test_the_page_of_a_run_shows_a_step_of_a_newer_version_in_its_place(support: Client, ada: User) -> None:
    run = newer_run(ada)
    text = text_of(support, f"/console/runs/{run.pk}/")
    assert "compensate (step 3 of 8)" in text
    states = {view.code: view.state for view in run_view(run).steps}
    assert list(states)[:4] == [Step.TAKE_STOCK, Step.ROLL_CALL, "compensate", Step.FREE]
    assert list(states.values()) == ["done", "done", "now", *["todo"] * 5]


def test_a_step_of_a_newer_version_that_was_taken_stays_in_the_list(ada: User) -> None:
    run = newer_run(ada)
    run.step = Step.EVICT
    assert [(view.code, view.state) for view in run_view(run).steps][2:5] == [
        ("compensate", "done"),
        (Step.FREE, "done"),
        (Step.EVICT, "now"),
    ]


def test_pages_show_verdicts_reasons_kinds_and_outcomes_of_a_newer_version(support: Client, ada: User) -> None:
    node = rows.make_node()
    finding = {"id": "1", "pool": "chat", "node": "web-1", "verdict": VERDICT, "evidence": "", "action": "parked"}
    run = newer_run(ada, kind=KIND, outcome=OUTCOME, finished_at=database.now(), findings=[finding])
    rows.closed_record(ada, node, REASON, run=run)
    rows.make_record(ada, node, probe_verdict=VERDICT, probe_answered_at=database.now())
    Refusal.objects.create(user=ada, cause="quota", count=2, at=database.now(), until=database.now())
    page = text_of(support, f"/console/runs/{run.pk}/")
    assert "unblock of ada" in page
    assert "Deferred in" in page
    assert '<span class="badge near">asleep</span>' in page
    assert "<strong>parked</strong>" in page
    user = text_of(support, f"/console/users/{ada.pk}/")
    for said in ("unblock: deferred", "blocked by network", "2 handshakes refused: quota", 'badge near">asleep<'):
        assert said in user, said
    assert "blocked by network" in text_of(support, "/console/")
    assert text_of(support, "/console/runs/")


def test_the_admin_lists_words_of_a_newer_version(admin_client: Client, ada: User) -> None:
    run = newer_run(ada, kind=KIND)
    record = rows.closed_record(ada, rows.make_node(), REASON)
    assert "blocked_by_network" in text_of(admin_client, "/admin/connections/managerrecord/?held=closed")
    assert "blocked_by_network" in text_of(admin_client, f"/admin/connections/managerrecord/{record.pk}/change/")
    assert "compensate" in text_of(admin_client, "/admin/connections/recoveryrun/")
    assert "compensate" in text_of(admin_client, f"/admin/connections/recoveryrun/{run.pk}/change/")


def test_commands_and_reports_give_words_of_a_newer_version_as_they_are(ada: User) -> None:
    node = rows.make_node()
    closing: dict[str, Any] = {"state": RecordState.CLOSING, "close_reason": REASON, "closing_at": database.now()}
    record = rows.make_record(ada, node, **closing)
    rows.make_record(ada, node, probe_verdict=VERDICT, probe_answered_at=database.now())
    out = StringIO()
    call_command("list_managers", "--json", stdout=out)
    assert {found["close_reason"] for found in json.loads(out.getvalue())} == {"blocked_by_network", None}
    assert "a newer version found to be asleep" in diagnose_user(ada).summary
    finding = {
        "id": str(record.pk),
        "pool": "chat",
        "verdict": VERDICT,
        "evidence": "",
        "action": "parked",
        "reason": "",
    }
    found = report(newer_run(ada, kind=KIND, findings=[finding]))
    assert (found["kind"], found["managers"][0]["verdict"], found["managers"][0]["action"]) == (KIND, VERDICT, "parked")
