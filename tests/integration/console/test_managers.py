"""Closing one manager."""

from django.contrib.auth.models import User
from django.test import Client

from connections.models import AuditEntry
from connections.policy.states import CloseReason, RecordState
from tests.support import rows
from tests.support.staff import HTMX


def test_one_manager_is_asked_to_close_and_the_others_stay(support: Client, ada: User) -> None:
    node = rows.make_node()
    record, other = rows.make_records(2, ada, node)
    response = support.post(f"/console/managers/{record.pk}/close/", {"reason": "ada asked"})
    assert response.status_code == 303
    assert response.headers["Location"] == f"/console/users/{ada.pk}/"
    record.refresh_from_db()
    other.refresh_from_db()
    assert (record.state, record.close_reason, record.actor) == (
        RecordState.CLOSING,
        CloseReason.CLOSED_BY_STAFF,
        "support",
    )
    assert other.state == RecordState.LIVE
    assert AuditEntry.objects.get().reason == "ada asked"


def test_htmx_gets_the_row(support: Client, ada: User) -> None:
    record = rows.make_record(ada, rows.make_node())
    response = support.post(f"/console/managers/{record.pk}/close/", {"reason": "x"}, headers=HTMX)
    text = response.content.decode().strip()
    assert text.startswith(f'<tr id="manager-{record.pk}"')
    assert "Its node is asked to close it." in text
    assert "closing for 0 s (closed by staff)" in text


def test_the_answer_says_that_a_manager_was_already_closed(support: Client, ada: User) -> None:
    record = rows.closed_record(ada, rows.make_node())
    response = support.post(f"/console/managers/{record.pk}/close/", {"reason": "x"}, headers=HTMX)
    assert response.status_code == 200
    assert "It was already closed. Nothing was done." in response.content.decode()
    record.refresh_from_db()
    assert record.close_reason == CloseReason.CLIENT_CLOSED


def test_without_a_reason_the_manager_stays_open(support: Client, ada: User) -> None:
    record = rows.make_record(ada, rows.make_node())
    for headers in ({}, HTMX):
        response = support.post(f"/console/managers/{record.pk}/close/", {"reason": " "}, headers=headers)
        assert response.status_code == 422
        text = response.content.decode()
        assert text.count("Say why") == 1
        assert f'id="close-{record.pk}" open' in text
    record.refresh_from_db()
    assert record.state == RecordState.LIVE


def test_it_is_not_for_viewers(viewer: Client, ada: User) -> None:
    record = rows.make_record(ada, rows.make_node())
    assert viewer.post(f"/console/managers/{record.pk}/close/", {"reason": "x"}).status_code == 403
    record.refresh_from_db()
    assert record.state == RecordState.LIVE


def test_the_record_of_a_user_who_was_deleted_is_on_no_page(support: Client) -> None:
    record = rows.make_record(None, rows.make_node())
    assert support.post(f"/console/managers/{record.pk}/close/", {"reason": "x"}).status_code == 404
