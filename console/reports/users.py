"""The list of users: search, filter, order, and a cursor instead of an OFFSET.

In the order by pressure (the fill of the fullest pool), users who hold managers come first. The cursor says in which of
the two parts a page ended.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import Count, Exists, F, IntegerField, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from connections.conf import tunables
from connections.models import ManagerRecord, UserGate, routing
from connections.policy.states import RecordState
from console.reports import cursor
from console.reports.usage import UserUsage, usage_of

PAGE = 50


class Status(StrEnum):
    ALL = "all"
    LIMIT = "limit"
    OVER = "over"
    HOLDING = "holding"
    IDLE = "idle"
    DISABLED = "disabled"


class Sort(StrEnum):
    PRESSURE = "pressure"
    HELD = "held"
    USERNAME = "username"
    ID = "id"


@dataclass(frozen=True, slots=True)
class UserRow:
    user: Any
    usage: UserUsage


@dataclass(frozen=True, slots=True)
class UserPage:
    rows: list[UserRow]
    next_cursor: str


def find_users(*, q: str, status: Status, sort: Sort, after: str, now: datetime, size: int = PAGE) -> UserPage:
    """Return one page of users. `after` is the cursor of the page before; an empty or invalid one begins at the top."""
    users = _filtered(_searched(q), status, now)
    if sort in (Sort.PRESSURE, Sort.HELD):
        found, next_cursor = _by_number(users, sort, after, size, now)
    else:
        found, next_cursor = _by_name(users, sort, after, size)
    usages = usage_of([user.pk for user in found], now)
    return UserPage([UserRow(user, usages[user.pk]) for user in found], next_cursor)


def users_at_limit(now: datetime, size: int) -> list[UserRow]:
    """Return the users at or over a limit, the fullest first."""
    return find_users(q="", status=Status.LIMIT, sort=Sort.PRESSURE, after="", now=now, size=size).rows


def _searched(q: str) -> QuerySet[Any]:
    """Return the users with this text in their username or email, or for `#id` the user with this key."""
    model = get_user_model()
    users = routing.users()
    q = q.strip()
    if not q:
        return users
    if q.startswith("#"):
        key = q[1:].strip()
        return users.filter(pk=key) if _is_key(key) else users.none()
    wanted = Q(**{f"{model.USERNAME_FIELD}__icontains": q})
    if email := _email_field():
        wanted |= Q(**{f"{email}__icontains": q})
    return users.filter(wanted)


def _is_key(text: str) -> bool:
    try:
        get_user_model()._meta.pk.to_python(text)
    except ValidationError:
        return False
    return True


def _email_field() -> str:
    """Return the name of the email field; empty if the user model has none."""
    name = str(get_user_model().get_email_field_name())
    return name if _has_field(name) else ""


def _has_field(name: str) -> bool:
    return any(field.name == name for field in get_user_model()._meta.get_fields())


def _filtered(users: QuerySet[Any], status: Status, now: datetime) -> QuerySet[Any]:
    if status is Status.LIMIT:
        return _with_pressure(users.filter(_holds_something()), now).filter(number__gte=FULL)
    if status is Status.OVER:
        return _with_pressure(users.filter(_holds_something()), now).filter(number__gt=FULL)
    if status is Status.HOLDING:
        return users.filter(_holds_something())
    if status is Status.IDLE:
        return users.filter(~_holds_something())
    if status is Status.DISABLED:
        return users.filter(is_active=False) if _has_field("is_active") else users.none()
    return users


# Annotations to order by

FULL = 1000  # the pressure of a full pool: pressure is an integer, in thousandths of the limit


def _holds_something() -> Exists:
    return Exists(ManagerRecord.objects.held().filter(user=OuterRef("pk")))


def _with_held(users: QuerySet[Any]) -> QuerySet[Any]:
    held = (
        ManagerRecord.objects.held()
        .filter(user=OuterRef("pk"))
        .order_by()
        .values("user")
        .annotate(number=Count("pk"))
        .values("number")
    )
    number = Coalesce(Subquery(held, output_field=IntegerField()), 0)
    annotated: QuerySet[Any] = users.annotate(number=number)
    return annotated


def _with_pressure(users: QuerySet[Any], now: datetime) -> QuerySet[Any]:
    """Annotate `number`: the pressure of the fullest pool."""
    gates = UserGate.objects.filter(user=OuterRef("user"), pool=OuterRef("pool"))
    override = gates.overridden(now).values("soft_limit")[:1]
    route = gates.values("route_soft_limit")[:1]
    limit = Coalesce(Subquery(override), Subquery(route), Value(tunables().soft_limit), output_field=IntegerField())
    pressure = (
        ManagerRecord.objects.held()
        .filter(user=OuterRef("pk"))
        .order_by()
        .values("user", "pool")
        .annotate(counted=Count("pk", filter=Q(state=RecordState.LIVE)), limit=limit)
        .annotate(number=F("counted") * FULL / F("limit"))
        .order_by("-number")
        .values("number")[:1]
    )
    number = Coalesce(Subquery(pressure, output_field=IntegerField()), 0)
    annotated: QuerySet[Any] = users.annotate(number=number)
    return annotated


# Pages


def _by_number(users: QuerySet[Any], sort: Sort, after: str, size: int, now: datetime) -> tuple[list[Any], str]:
    """Return users who hold managers by their number, highest first, then the others by key."""
    position = cursor.decode(after, (int, int, str))
    part, number, key = position or (0, -1, "")
    if position is not None and not _is_key(key):
        part, position = 0, None
    found: list[Any] = []
    if part == 0:
        holders = users.filter(_holds_something())
        holders = _with_held(holders) if sort is Sort.HELD else _with_pressure(holders, now)
        if position is not None:
            holders = holders.filter(Q(number__lt=number) | Q(number=number, pk__gt=key))
        found = list(holders.order_by("-number", "pk")[: size + 1])
        if len(found) > size:
            last = found[size - 1]
            return found[:size], cursor.encode(0, last.number, str(last.pk))
    idle = users.filter(~_holds_something())
    if part == 1:
        idle = idle.filter(pk__gt=key)
    room = size - len(found)
    rest = list(idle.order_by("pk")[: room + 1])
    if len(rest) <= room:
        return found + rest, ""
    page = found + rest[:room]
    if room == 0:
        # Holders fill this page exactly: the next page finds no more of them and begins with the others.
        return page, cursor.encode(0, found[-1].number, str(found[-1].pk))
    return page, cursor.encode(1, 0, str(page[-1].pk))


def _by_name(users: QuerySet[Any], sort: Sort, after: str, size: int) -> tuple[list[Any], str]:
    name = "pk" if sort is Sort.ID else get_user_model().USERNAME_FIELD
    position = cursor.decode(after, (str,))
    if position is not None and (sort is Sort.USERNAME or _is_key(position[0])):
        users = users.filter(**{f"{name}__gt": position[0]})
    found = list(users.order_by(name)[: size + 1])
    if len(found) <= size:
        return found, ""
    last = found[size - 1]
    return found[:size], cursor.encode(str(last.pk if sort is Sort.ID else last.get_username()))


def by_keys(keys: list[str]) -> list[Any]:
    """Return the users with these keys (as text) in one query. Invalid and unknown keys are left out."""
    return list(routing.users().filter(pk__in=[key for key in keys if _is_key(key)]).order_by("pk"))
