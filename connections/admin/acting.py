"""Actions on selected rows: recover users, close managers. Each asks for a reason first."""

import logging
from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from connections import database
from connections.admin.lists import InspectionAdmin
from connections.models import ManagerRecord
from connections.models.routing import users
from connections.policy.actor import Actor
from connections.policy.wording import count_of
from connections.records.audit import AuditedAction
from connections.records.staff import actor_of
from connections.recovery import actions
from connections.recovery.bulk import recover_each

logger = logging.getLogger(__name__)

MAX_SELECTED = 100  # rows that one person can still look over
RECOVER = "connections.recover_user"


def reason_field(**attributes: Any) -> forms.CharField:
    return forms.CharField(
        max_length=500,
        error_messages={"required": "Say why: the reason goes into the audit trail."},
        widget=forms.TextInput(attrs={"autocomplete": "off", "size": 60, **attributes}),
    )


class ReasonForm(forms.Form):
    reason = reason_field(autofocus=True)


def may_recover(request: HttpRequest) -> bool:
    return bool(request.user.has_perm(RECOVER))


class ActingAdmin(InspectionAdmin):
    """A list with actions. An attempt without the right leaves an audit entry."""

    actions_selection_counter = True
    guarded_actions: tuple[str, ...] = ()

    def has_recover_permission(self, request: HttpRequest) -> bool:
        return may_recover(request)

    @transaction.non_atomic_requests  # ATOMIC_REQUESTS would roll back the audit entry of a denied attempt
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        wanted = request.POST.get("action", "") if request.method == "POST" else ""
        seen = self.has_view_permission(request)
        if seen and wanted in self.guarded_actions and not may_recover(request):
            chosen = ", ".join(request.POST.getlist(ACTION_CHECKBOX_NAME))
            reason = request.POST.get("reason", "").strip()
            denied = AuditedAction(actor_of(request), "denied", target=chosen, reason=reason)
            denied.done(f"{wanted} in the admin: needs {RECOVER}")
            raise PermissionDenied(RECOVER)
        response: HttpResponse = super().changelist_view(request, extra_context)
        return response

    @admin.action(description="Recover selected users", permissions=["recover"])
    def recover_users(self, request: HttpRequest, queryset: "QuerySet[Any]") -> HttpResponse | None:
        keys = queryset.exclude(user=None).order_by("user_id").values_list("user_id", flat=True).distinct()
        return self._confirmed(
            request,
            users().order_by("pk"),
            keys,
            title="Recover users",
            noun="user",
            consequence=(
                "Every client of these users is asked to answer. Managers that are proven dead are freed. Living ones "
                "stay open, except that a user who is still over the limit loses the least active ones."
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
                "Living managers are closed too. Their clients connect again after a few seconds. Managers that are "
                "already closed stay unchanged."
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
        """Show which of `rows` the action takes and ask for the reason; with a reason, call `perform`.

        The page sends back the keys that it showed, since the selected rows may have changed meanwhile.
        """
        confirmed = "confirmed" in request.POST
        wanted = request.POST.getlist("chosen") if confirmed else list(keys[: MAX_SELECTED + 1])
        chosen = _rows_with(rows, wanted)
        if not chosen:
            self.message_user(
                request, f"The {noun}s of these rows no longer exist. Nothing was done.", messages.WARNING
            )
            return None
        if len(wanted) > MAX_SELECTED:
            self.message_user(
                request, f"Select at most {MAX_SELECTED} {noun}s at a time. Nothing was done.", messages.ERROR
            )
            return None
        form = ReasonForm(request.POST if confirmed else None)
        if form.is_valid():
            self.message_user(request, perform(chosen, actor_of(request), form.cleaned_data["reason"]))
            return None
        context = {"title": title, "noun": noun, "consequence": consequence, "chosen": chosen, "form": form}
        return self._confirmation(request, context)

    def _confirmation(self, request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
        """Render the page that asks for the reason; status 422 if the reason was missing."""
        context |= self.admin_site.each_context(request) | {
            "opts": self.opts,
            "media": self.media,
            "action": request.POST["action"],
            "selected": request.POST.getlist(ACTION_CHECKBOX_NAME)[:1],  # without one the admin runs no action
            "title": context["title"],
        }
        status = 422 if context["form"].is_bound else 200
        return TemplateResponse(request, "admin/connections/confirm_action.html", context, status=status)


def _rows_with(rows: "QuerySet[Any]", keys: list[Any]) -> list[Any]:
    """Return the rows with these keys, at most one more than MAX_SELECTED; none if a key can't be read."""
    try:
        return list(rows.filter(pk__in=keys[: MAX_SELECTED + 1]))
    except (ValueError, ValidationError):
        return []


def recover_all(users: list[Any], actor: Actor, reason: str) -> str:
    """Open or join a cleanup for each user, and return sentences that say what was done."""
    return " ".join(recover_each(users, actor, reason).sentences())


def close_each(records: list[ManagerRecord], actor: Actor, reason: str) -> str:
    """Ask each manager to close, also after one failed, and return a sentence that says what was done."""
    asked = failed = 0
    for record in records:
        try:
            asked += actions.close_manager(record, actor=actor, reason=reason)
        except Exception as error:  # one manager that can't be closed must not keep the others
            if database.is_away(error):  # the others would wait as long; a lock's time-out is no outage
                raise
            logger.exception("close_failed", extra={"manager": str(record.pk)})
            failed += 1
    said = [f"{count_of(asked, 'manager')} asked to close"]
    if before := len(records) - asked - failed:
        said.append(f"{before} already closed or closing")
    if failed:
        said.append(f"{failed} failed")
    return f"{', '.join(said)}."
