"""What staff may do with the rows they select: recover users, close managers. Each asks for a reason first."""

import logging
from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from connections import database
from connections.admin.lists import InspectionAdmin
from connections.models import ManagerRecord
from connections.policy.actor import Actor
from connections.records.audit import Attempt
from connections.records.staff import actor_of
from connections.recovery import actions
from connections.recovery.bulk import recover_each

logger = logging.getLogger(__name__)

MAX_SELECTED = 100  # what one person can still look over
RECOVER = "connections.recover_user"


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=500,
        error_messages={"required": "Say why: the reason goes into the audit trail."},
        widget=forms.TextInput(attrs={"autocomplete": "off", "autofocus": True, "size": 60}),
    )


def may_recover(request: HttpRequest) -> bool:
    return bool(request.user.has_perm(RECOVER))


class ActingAdmin(InspectionAdmin):
    """A list whose rows staff may act on. Attempts without the right are kept in the audit trail."""

    actions_selection_counter = True
    guarded_actions: tuple[str, ...] = ()

    def has_recover_permission(self, request: HttpRequest) -> bool:
        return may_recover(request)

    @transaction.non_atomic_requests  # of ATOMIC_REQUESTS, which would take back the entry of who was denied
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        wanted = request.POST.get("action", "") if request.method == "POST" else ""
        seen = self.has_view_permission(request)
        if seen and wanted in self.guarded_actions and not may_recover(request):
            chosen = ", ".join(request.POST.getlist(ACTION_CHECKBOX_NAME))
            reason = request.POST.get("reason", "").strip()
            denied = Attempt(actor_of(request), "denied", target=chosen, reason=reason)
            denied.done(f"{wanted} in the admin: needs {RECOVER}")
            raise PermissionDenied(RECOVER)
        response: HttpResponse = super().changelist_view(request, extra_context)
        return response

    @admin.action(description="Recover selected users", permissions=["recover"])
    def recover_users(self, request: HttpRequest, queryset: "QuerySet[Any]") -> HttpResponse | None:
        keys = queryset.exclude(user=None).order_by("user_id").values_list("user_id", flat=True).distinct()
        return self._confirmed(
            request,
            get_user_model()._default_manager.order_by("pk"),
            keys,
            title="Recover users",
            noun="user",
            consequence=(
                "All their clients are asked for a sign of life. Managers that are proven dead are freed; the living "
                "stay, unless a user is over the limit even then."
            ),
            perform=recover_all,
        )

    @admin.action(description="Close selected managers", permissions=["recover"])
    def close_managers(self, request: HttpRequest, queryset: "QuerySet[Any]") -> HttpResponse | None:
        return self._confirmed(
            request,
            ManagerRecord.objects.select_related("user").order_by("pk"),
            queryset.values_list("pk", flat=True),
            title="Close managers",
            noun="manager",
            consequence=(
                "They are closed whether their clients live or not, and the clients may connect again after a few "
                "seconds. Those that are closed already stay as they are."
            ),
            perform=close_each,
        )

    def _confirmed(
        self,
        request: HttpRequest,
        rows: "QuerySet[Any]",
        keys: "QuerySet[Any]",
        *,
        title: str,
        noun: str,
        consequence: str,
        perform: Callable[[list[Any], Actor, str], str],
    ) -> HttpResponse | None:
        """The page that says what will happen to which of `rows` and asks for the reason; with one, `perform`.

        The keys that the page showed are those that come back: what was selected may have changed meanwhile.
        """
        confirmed = "confirmed" in request.POST
        wanted = request.POST.getlist("chosen") if confirmed else list(keys[: MAX_SELECTED + 1])
        try:
            chosen = list(rows.filter(pk__in=wanted[: MAX_SELECTED + 1]))
        except (ValueError, ValidationError):  # keys that are none
            chosen = []
        if not chosen:
            self.message_user(request, f"None of these rows has a {noun} any more.", messages.WARNING)
            return None
        if len(wanted) > MAX_SELECTED:
            self.message_user(
                request, f"{MAX_SELECTED} {noun}s at a time is the most. Nothing was done.", messages.ERROR
            )
            return None
        form = ReasonForm(request.POST if confirmed else None)
        if form.is_valid():
            self.message_user(request, perform(chosen, actor_of(request), form.cleaned_data["reason"]))
            return None
        context = self.admin_site.each_context(request) | {
            "title": title,
            "opts": self.opts,
            "media": self.media,
            "chosen": chosen,
            "noun": noun,
            "consequence": consequence,
            "form": form,
            "action": request.POST["action"],
            "selected": request.POST.getlist(ACTION_CHECKBOX_NAME)[:1],  # the admin wants one
        }
        status = 422 if form.is_bound else 200
        return TemplateResponse(request, "admin/connections/confirm_action.html", context, status=status)


def recover_all(users: list[Any], actor: Actor, reason: str) -> str:
    """Open or join a cleanup for each user. Returns what was done, in sentences."""
    return " ".join(recover_each(users, actor, reason).sentences())


def close_each(records: list[ManagerRecord], actor: Actor, reason: str) -> str:
    """Tell each manager to close; one that fails keeps no other. Returns what was done, in a sentence."""
    told = failed = 0
    for record in records:
        try:
            told += actions.close_manager(record, actor=actor, reason=reason)
        except database.AWAY:
            raise
        except Exception:
            logger.exception("close_failed", extra={"manager": str(record.pk)})
            failed += 1
    said = [f"{told} {'manager' if told == 1 else 'managers'} told to close"]
    if before := len(records) - told - failed:
        said.append(f"{before} closed or closing already")
    if failed:
        said.append(f"{failed} failed")
    return f"{', '.join(said)}."
