"""The admin's actions on selected rows: each asks for a reason and leaves an audit entry."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from connections.admin.acting import MAX_SELECTED
from connections.models import AuditEntry, ManagerRecord, RecoveryRun
from connections.policy.states import CloseReason, RecordState, RunKind
from tests.support import rows
from tests.support.admin import list_url
from tests.support.bad_rows import no_run_for, unwritable

pytestmark = pytest.mark.django_db


def act(client: Client, model: str, action: str, selected: list[Any], **fields: Any) -> Any:
    """Post an action on selected rows, as the list does; with `reason` and `confirmed`, as the next page does."""
    data = {"action": action, "_selected_action": [str(row.pk) for row in selected], **fields}
    return client.post(list_url(model), data, follow=True)


def messages_of(response: Any) -> str:
    return " ".join(str(message) for message in response.context["messages"])


def test_the_action_on_users_shows_count_and_consequence_and_asks_for_a_reason(support: Client) -> None:
    ada, node = rows.make_user("ada"), rows.make_node()
    records = rows.make_records(3, ada, node)
    page = act(support, "managerrecord", "recover_users", records)
    text = page.content.decode()
    assert "1 user." in text
    assert "is asked to answer" in text
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


def test_users_are_recovered_from_the_list_of_limits(support: Client) -> None:
    gate = rows.make_gate(rows.make_user("ada"))
    page = act(support, "usergate", "recover_users", [gate])
    assert page.context["chosen"] == [gate.user]
    act(support, "usergate", "recover_users", [gate], confirmed="1", chosen=[gate.user.pk], reason="asked")
    assert RecoveryRun.objects.get().user == gate.user


def test_recovering_users_goes_on_where_one_fails(support: Client) -> None:
    people, node = [rows.make_user(name) for name in ("ada", "grace")], rows.make_node()
    records = [rows.make_record(user, node) for user in people]
    fields = {"confirmed": "1", "chosen": [user.pk for user in people], "reason": "a storm"}
    with no_run_for(people[0]):
        done = act(support, "managerrecord", "recover_users", records, **fields)
    assert messages_of(done) == "1 recovery opened. 1 failed: ada."
    assert RecoveryRun.objects.get().user == people[1]
    assert AuditEntry.objects.get(user=people[0]).outcome == "failed: bad row"


def test_closing_managers_closes_the_live_ones_with_an_audit_entry_for_each(support: Client) -> None:
    ada, node = rows.make_user("ada"), rows.make_node()
    live, spared = rows.make_records(2, ada, node)
    closed = rows.closed_record(ada, node, CloseReason.CLIENT_CLOSED)
    page = act(support, "managerrecord", "close_managers", [live])
    assert page.context["chosen"] == [live]
    assert ManagerRecord.objects.get(pk=live.pk).state == RecordState.LIVE
    fields = {"confirmed": "1", "chosen": [live.pk, closed.pk], "reason": "stolen laptop"}
    done = act(support, "managerrecord", "close_managers", [live], **fields)
    assert messages_of(done) == "1 manager asked to close, 1 already closed or closing."
    live.refresh_from_db()
    closed.refresh_from_db()
    spared.refresh_from_db()
    assert (live.state, live.close_reason, live.actor) == (RecordState.CLOSING, CloseReason.CLOSED_BY_STAFF, "support")
    assert closed.close_reason == CloseReason.CLIENT_CLOSED
    assert spared.state == RecordState.LIVE
    assert AuditEntry.objects.filter(action="close_manager", reason="stolen laptop").count() == 2


def test_closing_managers_goes_on_where_one_fails(support: Client) -> None:
    records = rows.make_records(2, rows.make_user("ada"), rows.make_node())
    fields = {"confirmed": "1", "chosen": [record.pk for record in records], "reason": "stolen laptop"}
    with unwritable(records[0]):
        done = act(support, "managerrecord", "close_managers", records, **fields)
    assert messages_of(done) == "1 manager asked to close, 1 failed."
    assert ManagerRecord.objects.counted().get() == records[0]
    assert set(AuditEntry.objects.values_list("outcome", flat=True)) == {"told to close", "failed: bad row"}


@pytest.mark.parametrize("action", ["recover_users", "close_managers"])
def test_viewers_get_no_action_and_an_attempt_is_audited(action: str, viewer: Client) -> None:
    record = rows.make_record(rows.make_user("ada"), rows.make_node())
    assert action not in viewer.get(list_url("managerrecord")).content.decode()
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
    assert "at most 100 users at a time" in messages_of(first)
    keys = [record.user_id for record in records]
    forged = act(support, "managerrecord", "recover_users", records[:1], confirmed="1", chosen=keys, reason="everybody")
    assert "Nothing was done" in messages_of(forged)
    assert not RecoveryRun.objects.exists()


@pytest.mark.parametrize("chosen", [[], ["x"], ["00000000-0000-0000-0000-000000000000"]])
def test_a_stale_or_forged_choice_does_nothing(chosen: list[str], support: Client) -> None:
    record = rows.make_record(rows.make_user("ada"), rows.make_node())
    done = act(support, "managerrecord", "close_managers", [record], confirmed="1", chosen=chosen, reason="x")
    assert "no longer exist" in messages_of(done)
    assert ManagerRecord.objects.get().state == RecordState.LIVE
