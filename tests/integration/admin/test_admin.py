"""Django's admin: inspection that changes nothing, stays quick, and acts through recovery, with reason and audit."""

from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from connections.admin.acting import MAX_SELECTED
from connections.admin.lists import MAX_LISTED, CappedPaginator
from connections.models import AuditEntry, ManagerRecord, Node, RecoveryRun, Refusal, RunStep, UserGate
from connections.policy.actor import Actor
from connections.policy.states import CloseReason, RecordState, Refused, RunKind, Step
from connections.records.audit import Attempt
from tests.support import rows
from tests.support.bad_rows import no_run_for, refused, unwritable

pytestmark = pytest.mark.django_db
LISTS = ["managerrecord", "node", "recoveryrun", "usergate", "refusal", "auditentry"]


@pytest.fixture(autouse=True)
def quick_passwords(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def viewer() -> Client:
    return logged_in(rows.make_staff(rows.VIEWER, "viewer"))


@pytest.fixture
def support() -> Client:
    return logged_in(rows.make_staff(rows.SUPPORT, "support"))


@pytest.fixture
def lead() -> Client:
    return logged_in(rows.make_staff(rows.LEAD, "lead"))


@pytest.fixture
def superuser() -> Client:
    return logged_in(User.objects.create_superuser("root", password="demo"))


def listing(model: str, query: str = "") -> str:
    return f"/admin/connections/{model}/{query}"


def listed(client: Client, model: str, query: str = "") -> set[Any]:
    """The keys of the rows that a list shows."""
    response = client.get(listing(model, query))
    assert response.status_code == 200, response.content
    return {row.pk for row in response.context["cl"].result_list}


def fill(count: int) -> None:
    """As many rows of everything, each of a user and a node of its own."""
    offset = User.objects.count()
    for number in range(offset, offset + count):
        user = rows.make_user(f"user{number}")
        node = rows.make_node(f"web-{number}")
        rows.make_record(user, node)
        rows.make_gate(user, soft_limit=5)
        run = rows.make_run(user, kind=RunKind.RESET)
        RunStep.objects.create(run=run, step=Step.TAKE_STOCK, at=timezone.now())
        Refusal.objects.create(user=user, node=node, cause=Refused.RATE_LIMITED, at=timezone.now())
        Attempt(Actor.staff(user), "cleanup", user, reason="x").done("opened", run=run)


# --- Inspection


@pytest.mark.parametrize("model", LISTS)
def test_a_list_takes_as_many_queries_for_many_rows_as_for_few(model: str, superuser: Client) -> None:
    fill(3)
    superuser.get(listing(model))  # content types are cached from here on
    with CaptureQueriesContext(connection) as few:
        assert len(listed(superuser, model)) == 3
    fill(40)
    with CaptureQueriesContext(connection) as many:
        assert len(listed(superuser, model)) == 43
    assert len(many) == len(few) <= 8, [query["sql"] for query in many]
    counts = [query["sql"] for query in many if "COUNT(*)" in query["sql"]]
    assert all(f"LIMIT {MAX_LISTED}" in sql for sql in counts), counts


def test_a_count_goes_no_further_than_the_list() -> None:
    user, node = rows.make_user("ada"), rows.make_node()
    records = ManagerRecord.objects.order_by("pk")
    rows.make_records(3, user, node)
    assert CappedPaginator(records, 50).count == 3 == Paginator(records, 50).count
    with CaptureQueriesContext(connection) as queries:
        assert CappedPaginator(records, 50).count == 3
    assert f"LIMIT {MAX_LISTED}" in queries[0]["sql"]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="on few rows PostgreSQL rightly reads them all")
@pytest.mark.parametrize(
    ("model", "query", "index"),
    [
        ("managerrecord", "", "record_held_by_"),
        ("managerrecord", "?held=live", "record_held_by_"),
        ("managerrecord", "?held=closed", "record_closed"),
        ("managerrecord", "?close_reason__exact=evicted", "record_closed"),
        ("managerrecord", "?q=ada", "record_history"),
        ("refusal", "", "refusal_at"),
        ("refusal", "?q=ada", "refusal_by_user"),
        ("auditentry", "", "audit_at"),
        ("auditentry", "?q=ada", "audit_by_user"),
    ],
)
def test_lists_and_searches_use_an_index(model: str, query: str, index: str, superuser: Client) -> None:
    rows.make_user("ada")
    response = superuser.get(listing(model, query))
    plan = response.context["cl"].get_queryset(response.wsgi_request)[:50].explain()
    assert index in plan


def test_a_list_shows_the_held_and_a_search_the_closed_too(viewer: Client) -> None:
    ada, alan, node = rows.make_user("ada"), rows.make_user("adalbert"), rows.make_node()
    live, other = rows.make_record(ada, node), rows.make_record(alan, node)
    closed = rows.closed_record(ada, node, CloseReason.EVICTED)
    assert listed(viewer, "managerrecord") == {live.pk, other.pk}
    assert listed(viewer, "managerrecord", "?held=closed") == {closed.pk}
    assert listed(viewer, "managerrecord", "?close_reason__exact=evicted") == {closed.pk}
    assert listed(viewer, "managerrecord", "?q=ada") == {live.pk, other.pk, closed.pk}
    assert listed(viewer, "managerrecord", f"?q=%23{ada.pk}") == {live.pk, closed.pk}
    assert listed(viewer, "managerrecord", f"?q={closed.pk}") == {closed.pk}
    assert listed(viewer, "managerrecord", f"?q={node.name}") == {live.pk, other.pk}
    assert listed(viewer, "managerrecord", "?q=nobody") == set()
    assert listed(viewer, "managerrecord", "?q=%23x") == set()


def test_the_key_of_one_user_finds_no_other(viewer: Client) -> None:
    node = rows.make_node()
    ten = [rows.make_record(rows.make_user(f"u{number}"), node) for number in range(12)]
    first = ten[0].user
    assert first is not None
    assert listed(viewer, "managerrecord", f"?q=%23{first.pk}") == {ten[0].pk}


@pytest.mark.parametrize("model", LISTS)
def test_nothing_can_be_added_and_nothing_deleted_from_here(model: str, superuser: Client) -> None:
    fill(1)
    table = apps.get_model("connections", model)
    row = table._default_manager.get()
    assert superuser.get(listing(model, "add/")).status_code == 403
    assert superuser.get(listing(model, f"{row.pk}/delete/")).status_code == 403
    assert superuser.post(listing(model, f"{row.pk}/delete/"), {"post": "yes"}).status_code == 403
    superuser.post(listing(model), {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"})
    assert table._default_manager.filter(pk=row.pk).exists()


@pytest.mark.parametrize("model", [name for name in LISTS if name != "usergate"])
def test_pages_are_read_only_even_for_a_superuser(model: str, superuser: Client) -> None:
    fill(1)
    row = apps.get_model("connections", model)._default_manager.get()
    page = superuser.get(listing(model, f"{row.pk}/change/"))
    assert page.status_code == 200
    assert 'name="_save"' not in page.content.decode()
    assert superuser.post(listing(model, f"{row.pk}/change/"), {"pool": "x", "name": "x"}).status_code == 403


def test_a_run_shows_its_steps_and_what_it_found(viewer: Client) -> None:
    run = rows.make_run(rows.make_user("ada"), step=Step.REPORT)
    RunStep.objects.create(run=run, step=Step.TAKE_STOCK, at=timezone.now(), detail="20 held")
    run.findings = [
        {"id": "a", "pool": "chat", "node": "web-2", "verdict": "node_lost", "evidence": "<gone>", "action": "freed"}
    ]
    run.save()
    page = viewer.get(listing("recoveryrun", f"{run.pk}/change/")).content.decode()
    assert "20 held" in page
    assert "on web-2: node_lost, freed. &lt;gone&gt;" in page


def test_who_may_not_see_the_audit_trail_finds_no_list_of_it(viewer: Client, lead: Client) -> None:
    assert viewer.get(listing("auditentry")).status_code == 403
    assert lead.get(listing("auditentry")).status_code == 200


def test_a_user_can_be_deleted_with_what_hangs_on_them_and_the_audit_trail_stays(superuser: Client) -> None:
    fill(1)
    user = User.objects.get(username__startswith="user")
    superuser.post(f"/admin/auth/user/{user.pk}/delete/", {"post": "yes"})
    assert not User.objects.filter(pk=user.pk).exists()
    assert not UserGate.objects.exists()
    assert ManagerRecord.objects.get().user_id is None
    assert AuditEntry.objects.get(action="cleanup").user_label == user.username


# --- Actions


def act(client: Client, model: str, action: str, selected: list[Any], **fields: Any) -> Any:
    """Selects rows and an action, as the list's form does; with `reason` and `confirmed`, as the page after it does."""
    data = {"action": action, "_selected_action": [str(row.pk) for row in selected], **fields}
    return client.post(listing(model), data, follow=True)


def messages_of(response: Any) -> str:
    return " ".join(str(message) for message in response.context["messages"])


def test_recovering_users_says_count_and_consequence_and_asks_why(support: Client) -> None:
    ada, node = rows.make_user("ada"), rows.make_node()
    records = rows.make_records(3, ada, node)
    page = act(support, "managerrecord", "recover_users", records)
    text = page.content.decode()
    assert "1 user." in text
    assert "asked for a sign of life" in text
    assert page.context["chosen"] == [ada]
    assert not RecoveryRun.objects.exists()

    again = act(support, "managerrecord", "recover_users", records, confirmed="1", chosen=[ada.pk], reason=" ")
    assert again.status_code == 422
    assert "Say why" in again.content.decode()
    assert not RecoveryRun.objects.exists()


def test_recovering_users_opens_one_run_a_user_with_audit_and_joins_one_that_is_open(support: Client) -> None:
    ada, grace, node = rows.make_user("ada"), rows.make_user("grace"), rows.make_node()
    records = [*rows.make_records(3, ada, node), rows.make_record(grace, node), rows.make_record(None, node)]
    under_way = rows.make_run(grace)
    fields = {"confirmed": "1", "chosen": [ada.pk, grace.pk], "reason": "a storm"}
    done = act(support, "managerrecord", "recover_users", records, **fields)
    assert messages_of(done) == "1 recovery opened. 1 joined one that was under way."
    assert RecoveryRun.objects.filter(user=ada, kind=RunKind.CLEANUP, actor="support", reason="a storm").count() == 1
    assert RecoveryRun.objects.filter(user=grace).get() == under_way
    entries = AuditEntry.objects.filter(action="cleanup", actor="support", reason="a storm", ip="127.0.0.1")
    assert {entry.user for entry in entries} == {ada, grace}
    assert set(ManagerRecord.objects.values_list("state", flat=True)) == {RecordState.LIVE}


def test_recovering_from_the_limits(support: Client) -> None:
    gate = rows.make_gate(rows.make_user("ada"))
    page = act(support, "usergate", "recover_users", [gate])
    assert page.context["chosen"] == [gate.user]
    act(support, "usergate", "recover_users", [gate], confirmed="1", chosen=[gate.user.pk], reason="asked")
    assert RecoveryRun.objects.get().user == gate.user


def test_closing_managers_tells_the_live_ones_with_audit_for_each(support: Client) -> None:
    ada, node = rows.make_user("ada"), rows.make_node()
    live, spared = rows.make_records(2, ada, node)
    closed = rows.closed_record(ada, node, CloseReason.CLIENT_CLOSED)
    page = act(support, "managerrecord", "close_managers", [live])
    assert page.context["chosen"] == [live]
    assert ManagerRecord.objects.get(pk=live.pk).state == RecordState.LIVE
    fields = {"confirmed": "1", "chosen": [live.pk, closed.pk], "reason": "stolen laptop"}
    done = act(support, "managerrecord", "close_managers", [live], **fields)
    assert messages_of(done) == "1 manager told to close, 1 closed or closing already."
    live.refresh_from_db()
    closed.refresh_from_db()
    spared.refresh_from_db()
    assert (live.state, live.close_reason, live.actor) == (RecordState.CLOSING, CloseReason.CLOSED_BY_STAFF, "support")
    assert closed.close_reason == CloseReason.CLIENT_CLOSED
    assert spared.state == RecordState.LIVE
    assert AuditEntry.objects.filter(action="close_manager", reason="stolen laptop").count() == 2


@pytest.mark.parametrize("action", ["recover_users", "close_managers"])
def test_who_may_only_look_is_offered_no_action_and_an_attempt_is_kept(action: str, viewer: Client) -> None:
    record = rows.make_record(rows.make_user("ada"), rows.make_node())
    assert action not in viewer.get(listing("managerrecord")).content.decode()
    refused = act(
        viewer, "managerrecord", action, [record], confirmed="1", chosen=[record.pk, record.user_id], reason="no"
    )
    assert refused.status_code == 403
    assert not RecoveryRun.objects.exists()
    assert ManagerRecord.objects.get().state == RecordState.LIVE
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.reason) == ("denied", "viewer", "no")


def test_more_than_a_hundred_at_once_are_refused(support: Client) -> None:
    node = rows.make_node()
    records = [
        rows.make_record(user, node)
        for user in User.objects.bulk_create([User(username=f"u{number}") for number in range(MAX_SELECTED + 1)])
    ]
    first = act(support, "managerrecord", "recover_users", records[:1], select_across="1", index="0")
    assert "100 users at a time is the most" in messages_of(first)
    keys = [record.user_id for record in records]
    forged = act(support, "managerrecord", "recover_users", records[:1], confirmed="1", chosen=keys, reason="everybody")
    assert "Nothing was done" in messages_of(forged)
    assert not RecoveryRun.objects.exists()


@pytest.mark.parametrize("chosen", [[], ["x"], ["00000000-0000-0000-0000-000000000000"]])
def test_a_stale_or_forged_choice_does_nothing(chosen: list[str], support: Client) -> None:
    record = rows.make_record(rows.make_user("ada"), rows.make_node())
    done = act(support, "managerrecord", "close_managers", [record], confirmed="1", chosen=chosen, reason="x")
    assert "None of these rows" in messages_of(done)
    assert ManagerRecord.objects.get().state == RecordState.LIVE


# --- Limits


def limit_form(**fields: str) -> dict[str, str]:
    return {"soft_limit": "", "expires_at_0": "", "expires_at_1": "", "reason": "", **fields}


def test_a_limit_is_set_with_a_reason_and_audit_and_cleared_again(lead: Client) -> None:
    gate = rows.make_gate(rows.make_user("ada"))
    address = listing("usergate", f"{gate.pk}/change/")
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
        answer = lead.post(listing("usergate", f"{gate.pk}/change/"), limit_form(soft_limit="50", reason="a class"))
    assert answer.status_code == 500
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.user, entry.reason, entry.outcome) == (
        "set_limit",
        gate.user,
        "a class",
        "failed: bad row",
    )


def test_closing_managers_goes_on_where_one_fails(support: Client) -> None:
    records = rows.make_records(2, rows.make_user("ada"), rows.make_node())
    fields = {"confirmed": "1", "chosen": [record.pk for record in records], "reason": "stolen laptop"}
    with unwritable(records[0]):
        done = act(support, "managerrecord", "close_managers", records, **fields)
    assert messages_of(done) == "1 manager told to close, 1 failed."
    assert ManagerRecord.objects.counted().get() == records[0]
    assert set(AuditEntry.objects.values_list("outcome", flat=True)) == {"told to close", "failed: bad row"}


def test_recovering_users_goes_on_where_one_fails(support: Client) -> None:
    people, node = [rows.make_user(name) for name in ("ada", "grace")], rows.make_node()
    records = [rows.make_record(user, node) for user in people]
    fields = {"confirmed": "1", "chosen": [user.pk for user in people], "reason": "a storm"}
    with no_run_for(people[0]):
        done = act(support, "managerrecord", "recover_users", records, **fields)
    assert messages_of(done) == "1 recovery opened. 1 failed: ada."
    assert RecoveryRun.objects.get().user == people[1]
    assert AuditEntry.objects.get(user=people[0]).outcome == "failed: bad row"


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
def test_a_limit_that_makes_no_sense_changes_nothing(fields: dict[str, str], field: str, lead: Client) -> None:
    gate = rows.make_gate(rows.make_user("ada"), soft_limit=7, reason="as before")
    page = lead.post(listing("usergate", f"{gate.pk}/change/"), limit_form(**fields))
    assert field in page.context["adminform"].form.errors
    gate.refresh_from_db()
    assert (gate.soft_limit, gate.reason) == (7, "as before")
    assert not AuditEntry.objects.exists()


def test_who_may_not_set_limits_sees_them_and_changes_none(support: Client) -> None:
    gate = rows.make_gate(rows.make_user("ada"), soft_limit=7)
    address = listing("usergate", f"{gate.pk}/change/")
    assert support.get(address).status_code == 200
    assert support.post(address, limit_form(soft_limit="50", reason="please")).status_code == 403
    gate.refresh_from_db()
    assert gate.soft_limit == 7


def test_the_models_of_the_engine_are_all_there() -> None:
    registered = {model.__name__ for model in admin.site._registry}
    assert {"ManagerRecord", "Node", "RecoveryRun", "UserGate", "Refusal", "AuditEntry"} <= registered
    assert Node in admin.site._registry
