"""The page of one user: the verdict, the managers with their evidence, and the timeline."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from connections import database
from connections.models import Refusal
from connections.policy.actor import Actor
from connections.policy.states import CloseReason, Outcome, RecordState, Refused
from connections.recovery import actions
from tests.support import rows
from tests.support.staff import HTMX


def read(client: Client, user: User, **query: str) -> str:
    response = client.get(f"/console/users/{user.pk}/", query)
    assert response.status_code == 200
    return response.content.decode()


def test_a_healthy_user_is_called_healthy(viewer: Client, ada: User) -> None:
    rows.make_records(3, ada, rows.make_node())
    text = read(viewer, ada)
    assert '<span class="figure">3 / 20</span> held' in text
    assert "no sign that its client is gone" in text
    assert "ada@example.org" in text


def test_the_page_of_a_stuck_user_shows_summary_numbers_and_suggestion(viewer: Client, ada: User) -> None:
    rows.make_records(12, ada, rows.lost_node())
    living = rows.make_node()
    rows.make_records(5, ada, living, overdue_since=database.now() - timedelta(seconds=60))
    rows.make_records(3, ada, living)
    text = read(viewer, ada)
    assert '<span class="figure">20 / 20</span> held' in text
    assert "17" in text[text.index('class="sentence"') :][:400]
    assert "Recover this user." in text
    assert text.count("node web-2 was lost: no renewal for 10 s") == 12
    assert text.count("the client has owed an answer for 1 min") == 5


def test_managers_in_doubt_come_first(viewer: Client, ada: User) -> None:
    fine = rows.make_record(ada, rows.make_node(), age=500)
    dead = rows.make_record(ada, rows.lost_node(), age=5)
    overdue = rows.make_record(ada, fine.node, age=50, overdue_since=database.now())
    text = read(viewer, ada)
    places = [text.index(f'id="manager-{record.pk}"') for record in (dead, overdue, fine)]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("fields", "evidence"),
    [
        ({"accepted_at": None}, "admitted 1 min ago, but never opened"),
        ({"turn_since": "now"}, "an agent turn has been running for 0 s"),
        ({"busy_since": "now"}, "its handler has been busy for 0 s"),
        ({"sweep_error": "disk full"}, "could not be freed: disk full"),
        (
            {"state": RecordState.CLOSING, "closing_at": "now", "close_reason": CloseReason.RESET},
            "closing for 0 s (closed by a reset); its node has not confirmed yet",
        ),
        (
            {"probe_answered_at": "now", "probe_verdict": "unresponsive", "probe_evidence": "silent for 5 s"},
            "roll call 0 s ago: does not answer (silent for 5 s)",
        ),
    ],
)
def test_the_page_tells_each_fact(
    viewer: Client, ada: User, monkeypatch: pytest.MonkeyPatch, fields: dict[str, object], evidence: str
) -> None:
    now = database.now()
    # Without it, a page on a busy machine would show one second more.
    monkeypatch.setattr("connections.database.now", lambda: now)
    given: dict[str, Any] = {name: now if value == "now" else value for name, value in fields.items()}
    rows.make_record(ada, rows.make_node(), **given)
    assert evidence in read(viewer, ada)


@pytest.mark.parametrize(("silent", "state"), [(4, "late"), (60, "lapsed")])
def test_a_silent_node_is_named_with_its_silence(viewer: Client, ada: User, silent: float, state: str) -> None:
    rows.make_record(ada, rows.make_node("web-9", silent=silent))
    text = read(viewer, ada)
    assert f'<span class="badge {state}">{state}</span>' in text
    assert "silent for" in text


def test_the_page_says_how_old_its_facts_are(viewer: Client, ada: User) -> None:
    rows.make_record(ada, rows.make_node(silent=3))
    text = " ".join(read(viewer, ada).split())
    assert "As reported by the servers" in text
    assert ">3 s ago</time>" in text
    assert "The clients have not been asked yet." in text


def test_the_page_shows_only_actions_that_its_reader_may_do(
    viewer: Client, support: Client, lead: Client, ada: User
) -> None:
    rows.make_record(ada, rows.make_node())
    verbs = ("check", "recover", "reset", "limit", "close")
    offered = {
        name: [verb for verb in verbs if f'/{verb}/" hx-post' in read(client, ada)]
        for name, client in (("viewer", viewer), ("support", support), ("lead", lead))
    }
    assert offered == {
        "viewer": ["check"],
        "support": ["check", "recover", "close"],
        "lead": list(verbs),
    }


def test_the_page_of_user_1_shows_nothing_of_user_10(viewer: Client, ada: User) -> None:
    other = rows.make_user("other", id=ada.pk * 10)
    rows.make_records(4, other, rows.make_node())
    rows.closed_record(other, rows.make_node("elsewhere"))
    text = read(viewer, ada)
    assert "0 / 20" in text
    assert "elsewhere" not in text


def test_a_preview_is_written_in_the_conditional(viewer: Client, ada: User) -> None:
    rows.make_run(ada, dry_run=True, finished_at=database.now(), outcome=Outcome.RECOVERED, before=20, after=3)
    assert "Check: would recover" in read(viewer, ada)


def test_the_timeline_tells_runs_closes_actions_and_refusals(viewer: Client, ada: User) -> None:
    node = rows.make_node()
    run = rows.make_run(ada, finished_at=database.now(), outcome=Outcome.RECOVERED, before=20, after=3)
    for _ in range(3):
        rows.closed_record(ada, node, CloseReason.NODE_LOST, run=run)
    rows.closed_record(ada, node, CloseReason.HANDLER_FAILED)
    Refusal.objects.create(user=ada, node=node, cause=Refused.RATE_LIMITED, count=4, at=database.now())
    actions.set_limit(ada, "chat", 7, reason="big family", actor=Actor.command())
    text = read(viewer, ada)
    timeline = text[text.index('class="timeline"') :]
    assert "Recovery: recovered" in timeline
    assert "20 → 3 held" in timeline
    assert "3 managers: its node was lost" in timeline
    assert "its handler failed" in timeline
    assert "4 handshakes refused: connecting too often" in timeline
    assert "big family" in timeline


def test_an_open_run_is_shown_and_polled(viewer: Client, ada: User) -> None:
    run = rows.make_run(ada)
    text = read(viewer, ada)
    assert f'hx-get="/console/runs/{run.pk}/?part=run"' in text


def test_htmx_gets_only_the_facts(viewer: Client, ada: User) -> None:
    rows.make_record(ada, rows.make_node())
    part = viewer.get(f"/console/users/{ada.pk}/?part=facts", headers=HTMX).content.decode()
    assert "1 / 20" in part
    assert "<html" not in part
    assert "Recover user<" not in part


def test_the_number_of_queries_does_not_grow_with_the_managers(viewer: Client, ada: User) -> None:
    node = rows.make_node()
    rows.make_record(ada, node)
    with CaptureQueriesContext(connection) as few:
        read(viewer, ada)
    rows.make_records(30, ada, node)
    rows.make_records(5, ada, rows.lost_node())
    with CaptureQueriesContext(connection) as many:
        read(viewer, ada)
    assert len(many) <= len(few) + 1


def test_texts_from_clients_are_never_markup(viewer: Client, ada: User) -> None:
    rows.make_record(ada, rows.make_node("<b>web"), user_agent="<img src=x onerror=alert(1)>")
    text = read(viewer, ada)
    assert "<img src=x" not in text
    assert "<b>web" not in text
