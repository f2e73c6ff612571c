"""The limits of a user by pool: the function that returns them, and the SQL of the list of users, which agrees."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from connections import database
from connections.conf import tunables
from connections.records.counting import Limits, limits_of
from console.reports.users import FULL, _with_pressure
from tests.support import rows

pytestmark = pytest.mark.django_db

GATES = [
    pytest.param({}, 20, 25, id="a gate without numbers has the settings' limits"),
    pytest.param({"soft_limit": 8}, 8, 13, id="an override"),
    pytest.param({"soft_limit": 8, "expires": 60}, 8, 13, id="an override that still holds"),
    pytest.param({"soft_limit": 8, "expires": -60}, 20, 25, id="an override that has expired"),
    pytest.param({"route_soft_limit": 4}, 4, 9, id="the route's own limit"),
    pytest.param({"soft_limit": 8, "route_soft_limit": 4}, 8, 13, id="an override before the route's"),
    pytest.param({"soft_limit": 8, "route_soft_limit": 4, "expires": 0}, 4, 9, id="an override that expires now"),
    pytest.param({"route_burst": 1}, 20, 21, id="the route's own burst"),
    pytest.param({"soft_limit": 8, "route_burst": 0}, 8, 8, id="no burst at all"),
]


def make_gate(user: Any, now: datetime, fields: dict[str, int]) -> None:
    columns: dict[str, Any] = dict(fields)
    expires = columns.pop("expires", None)
    if expires is not None:
        columns["expires_at"] = now + timedelta(seconds=expires)
    rows.make_gate(user, **columns)


@pytest.mark.parametrize(("fields", "soft_limit", "ceiling"), GATES)
def test_a_gate_gives_soft_limit_and_ceiling(fields: dict[str, int], soft_limit: int, ceiling: int) -> None:
    now = database.now()
    ada = rows.make_user("ada")
    make_gate(ada, now, fields)
    limits = limits_of({ada.pk}, now, tunables())
    assert limits[ada.pk, "chat"] == Limits(soft_limit, ceiling)
    assert limits[ada.pk, "another"] == Limits(20, 25)
    assert list(limits) == [(ada.pk, "chat")]


@pytest.mark.parametrize(("fields", "soft_limit", "ceiling"), GATES)
def test_the_list_of_users_counts_by_the_same_limit(fields: dict[str, int], soft_limit: int, ceiling: int) -> None:
    now = database.now()
    ada = rows.make_user("ada")
    make_gate(ada, now, fields)
    rows.make_record(ada, rows.make_node())
    assert soft_limit == limits_of({ada.pk}, now, tunables())[ada.pk, "chat"].soft_limit
    user = _with_pressure(get_user_model()._default_manager.all(), now).get(pk=ada.pk)
    assert user.number == FULL // soft_limit
