"""The audit trail in the admin."""

import pytest
from django.test import Client

from tests.support.admin import list_url

pytestmark = pytest.mark.django_db


def test_staff_without_the_right_get_403_for_the_audit_trail(viewer: Client, lead: Client) -> None:
    assert viewer.get(list_url("auditentry")).status_code == 403
    assert lead.get(list_url("auditentry")).status_code == 200
