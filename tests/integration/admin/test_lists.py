"""The lists of the admin: read-only, quick on large tables, searched through an index."""

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from connections.admin.lists import MAX_LISTED, CappedPaginator
from connections.models import AuditEntry, ManagerRecord, Node, UserGate
from tests.support import rows
from tests.support.admin import list_url, listed_keys, make_rows

pytestmark = pytest.mark.django_db
LISTS = ["managerrecord", "node", "recoveryrun", "usergate", "refusal", "auditentry"]


@pytest.mark.parametrize("model", LISTS)
def test_a_list_takes_as_many_queries_for_many_rows_as_for_few(model: str, superuser: Client) -> None:
    make_rows(3)
    superuser.get(list_url(model))  # fills the cache of content types
    with CaptureQueriesContext(connection) as few:
        assert len(listed_keys(superuser, model)) == 3
    make_rows(40)
    with CaptureQueriesContext(connection) as many:
        assert len(listed_keys(superuser, model)) == 43
    assert len(many) == len(few) <= 8, [query["sql"] for query in many]
    counts = [query["sql"] for query in many if "COUNT(*)" in query["sql"]]
    assert all(f"LIMIT {MAX_LISTED}" in sql for sql in counts), counts


def test_a_count_stops_at_the_most_rows_that_a_list_shows() -> None:
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
    response = superuser.get(list_url(model, query))
    plan = response.context["cl"].get_queryset(response.wsgi_request)[:50].explain()
    assert index in plan


@pytest.mark.parametrize("model", LISTS)
def test_nothing_can_be_added_and_nothing_deleted_from_here(model: str, superuser: Client) -> None:
    make_rows(1)
    table = apps.get_model("connections", model)
    row = table._default_manager.get()
    assert superuser.get(list_url(model, "add/")).status_code == 403
    assert superuser.get(list_url(model, f"{row.pk}/delete/")).status_code == 403
    assert superuser.post(list_url(model, f"{row.pk}/delete/"), {"post": "yes"}).status_code == 403
    superuser.post(list_url(model), {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"})
    assert table._default_manager.filter(pk=row.pk).exists()


@pytest.mark.parametrize("model", [name for name in LISTS if name != "usergate"])
def test_pages_are_read_only_even_for_a_superuser(model: str, superuser: Client) -> None:
    make_rows(1)
    row = apps.get_model("connections", model)._default_manager.get()
    page = superuser.get(list_url(model, f"{row.pk}/change/"))
    assert page.status_code == 200
    assert 'name="_save"' not in page.content.decode()
    assert superuser.post(list_url(model, f"{row.pk}/change/"), {"pool": "x", "name": "x"}).status_code == 403


def test_deleting_a_user_deletes_dependent_rows_and_keeps_the_audit_trail(superuser: Client) -> None:
    make_rows(1)
    user = User.objects.get(username__startswith="user")
    superuser.post(f"/admin/auth/user/{user.pk}/delete/", {"post": "yes"})
    assert not User.objects.filter(pk=user.pk).exists()
    assert not UserGate.objects.exists()
    assert ManagerRecord.objects.get().user_id is None
    assert AuditEntry.objects.get(action="cleanup").user_label == user.username


def test_the_models_of_the_engine_are_all_there() -> None:
    registered = {model.__name__ for model in admin.site._registry}
    assert {"ManagerRecord", "Node", "RecoveryRun", "UserGate", "Refusal", "AuditEntry"} <= registered
    assert Node in admin.site._registry
