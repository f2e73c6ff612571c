"""Manager records in the admin: the list, its filters and its search."""

import pytest
from django.test import Client

from connections.policy.states import CloseReason
from tests.support import rows
from tests.support.admin import listed_keys

pytestmark = pytest.mark.django_db


def test_the_list_shows_held_records_and_a_search_also_closed_ones(viewer: Client) -> None:
    ada, alan, node = rows.make_user("ada"), rows.make_user("adalbert"), rows.make_node()
    live, other = rows.make_record(ada, node), rows.make_record(alan, node)
    closed = rows.closed_record(ada, node, CloseReason.EVICTED)
    assert listed_keys(viewer, "managerrecord") == {live.pk, other.pk}
    assert listed_keys(viewer, "managerrecord", "?held=closed") == {closed.pk}
    assert listed_keys(viewer, "managerrecord", "?close_reason__exact=evicted") == {closed.pk}
    assert listed_keys(viewer, "managerrecord", "?q=ada") == {live.pk, other.pk, closed.pk}
    assert listed_keys(viewer, "managerrecord", f"?q=%23{ada.pk}") == {live.pk, closed.pk}
    assert listed_keys(viewer, "managerrecord", f"?q={closed.pk}") == {closed.pk}
    assert listed_keys(viewer, "managerrecord", f"?q={node.name}") == {live.pk, other.pk}
    assert listed_keys(viewer, "managerrecord", "?q=nobody") == set()
    assert listed_keys(viewer, "managerrecord", "?q=%23x") == set()


def test_a_search_by_key_finds_only_that_user(viewer: Client) -> None:
    node = rows.make_node()
    ten = [rows.make_record(rows.make_user(f"u{number}"), node) for number in range(12)]
    first = ten[0].user
    assert first is not None
    assert listed_keys(viewer, "managerrecord", f"?q=%23{first.pk}") == {ten[0].pk}
