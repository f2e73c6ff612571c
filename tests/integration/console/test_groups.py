"""The three groups that the migration makes."""

import pytest
from django.contrib.auth.models import Group

from console.access import Right
from tests.support import rows

pytestmark = pytest.mark.django_db

RIGHTS = {
    rows.VIEWER: {Right.VIEW},
    rows.SUPPORT: {Right.VIEW, Right.RECOVER},
    rows.LEAD: set(Right),
}


@pytest.mark.parametrize("group", RIGHTS)
def test_each_group_has_its_rights_and_no_others(group: str) -> None:
    member = rows.make_staff(group)
    assert {right for right in Right if member.has_perm(right)} == RIGHTS[group]


def test_there_are_three_groups() -> None:
    assert set(Group.objects.values_list("name", flat=True)) == set(RIGHTS)
