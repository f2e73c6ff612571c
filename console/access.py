"""Permissions of the console. `user_to_recover` checks Right.RECOVER; `*_to_view` only fetches.

Without a log-in, a request goes to the log-in page. A user who may not view gets 404, as if nothing were there; a user
who may view but not act gets 403.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from typing import Any, Concatenate, ParamSpec
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import resolve_url
from django.utils.cache import add_never_cache_headers
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

from connections.models import ManagerRecord, Node, RecoveryRun
from connections.models.routing import users
from connections.records.audit import AuditedAction
from connections.records.staff import actor_of
from console.errors import answer_errors

Account = Any  # an instance of AUTH_USER_MODEL


class StaffRequest(HttpRequest):
    """A request of a logged-in user who may view the console."""

    htmx: HtmxDetails


class Right(StrEnum):
    """The console's rights: Django's permissions on the models they concern."""

    VIEW = "connections.view_managerrecord"
    RECOVER = "connections.recover_user"
    RESET = "connections.reset_user"
    LIMIT = "connections.change_usergate"
    DRAIN = "connections.drain_node"
    AUDIT = "connections.view_auditentry"


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights of one user, by which templates show or hide."""

    recover: bool
    reset: bool
    limit: bool
    drain: bool
    audit: bool

    @classmethod
    def of(cls, request: StaffRequest) -> "Rights":
        user = request.user
        return cls(
            recover=user.has_perm(Right.RECOVER),
            reset=user.has_perm(Right.RESET),
            limit=user.has_perm(Right.LIMIT),
            drain=user.has_perm(Right.DRAIN),
            audit=user.has_perm(Right.AUDIT),
        )


P = ParamSpec("P")
View = Callable[Concatenate[StaffRequest, P], HttpResponseBase]


def staff_only(view: View[P]) -> View[P]:
    """Guard a view of the console: check the right to view, forbid caching, and render errors.

    The view runs outside ATOMIC_REQUESTS, so that audit entries stay when it fails.
    """

    @transaction.non_atomic_requests
    @wraps(view)
    @answer_errors
    def guarded(request: StaffRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return _to_login(request)
        if not request.user.has_perm(Right.VIEW):
            raise Http404
        response = view(request, *args, **kwargs)
        add_never_cache_headers(response)
        return response

    return guarded


def _to_login(request: StaffRequest) -> HttpResponseBase:
    # `next` must be a page: an action's or a fragment's URL can't be opened after the log-in.
    page = request.htmx.current_url_abs_path if request.htmx else request.get_full_path()
    query = urlencode({"next": page}) if page and (request.htmx or request.method == "GET") else ""
    address = resolve_url(settings.LOGIN_URL) + (f"?{query}" if query else "")
    return HttpResponseClientRedirect(address) if request.htmx else HttpResponseRedirect(address)


def require(request: StaffRequest, right: Right, *, user: Account | None = None, target: str = "") -> None:
    """Raise PermissionDenied without the right; if the request is a POST, write the attempt to the audit trail."""
    if request.user.has_perm(right):
        return
    if request.method == "POST":
        reason = request.POST.get("reason", "").strip()
        denied = AuditedAction(actor_of(request), "denied", user, target, reason)
        denied.done(f"{request.path}: needs {right.value}")
    raise PermissionDenied(right.value)


# Fetch helpers


def user_to_view(request: StaffRequest, key: str) -> Account:
    model = get_user_model()
    try:
        return users().get(pk=key)
    except (model.DoesNotExist, ValueError, ValidationError, OverflowError):
        raise Http404 from None


def user_to_recover(request: StaffRequest, key: str) -> Account:
    user = user_to_view(request, key)
    require(request, Right.RECOVER, user=user)
    return user


def user_to_reset(request: StaffRequest, key: str) -> Account:
    user = user_to_view(request, key)
    require(request, Right.RESET, user=user)
    return user


def user_to_limit(request: StaffRequest, key: str) -> Account:
    user = user_to_view(request, key)
    require(request, Right.LIMIT, user=user)
    return user


def manager_to_close(request: StaffRequest, key: UUID) -> ManagerRecord:
    record: ManagerRecord | None = ManagerRecord.objects.select_related("user", "node").filter(pk=key).first()
    # A record whose user was deleted is on no user's page.
    if record is None or record.user is None:
        raise Http404
    require(request, Right.RECOVER, user=record.user, target=str(key))
    return record


def run_to_view(request: StaffRequest, key: UUID) -> RecoveryRun:
    run: RecoveryRun | None = RecoveryRun.objects.select_related("user").filter(pk=key).first()
    if run is None:
        raise Http404
    return run


def node_to_drain(request: StaffRequest, key: UUID) -> Node:
    node: Node | None = Node.objects.filter(pk=key).first()
    if node is None:
        raise Http404
    require(request, Right.DRAIN, target=f"{node.name} {key}")
    return node
