"""The audit trail in the admin."""

import pytest
from django.test import Client

from tests.support.admin import listing

pytestmark = pytest.mark.django_db


def test_who_may_not_see_the_audit_trail_finds_no_list_of_it(viewer: Client, lead: Client) -> None:
    assert viewer.get(listing("auditentry")).status_code == 403
    assert lead.get(listing("auditentry")).status_code == 200
