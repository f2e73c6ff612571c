"""Limits: one gate for each user and pool. An override is set through `actions.set_limit`, with a reason."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from connections import database
from connections.admin.acting import ActingAdmin
from connections.admin.lists import ModelAdmin, goes_with_its_user
from connections.models import UserGate
from connections.records.audit import attempt
from connections.records.staff import actor_of
from connections.recovery import actions

if TYPE_CHECKING:
    GateForm = forms.ModelForm[UserGate]
else:
    GateForm = forms.ModelForm

MAX_LIMIT = 100_000  # far above any real user, and what the column holds


class OverrideFilter(admin.SimpleListFilter):
    title = "override"
    parameter_name = "override"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("set", "Set"), ("none", "None: the default")]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        if self.value() == "set":
            return queryset.filter(soft_limit__isnull=False)
        return queryset.filter(soft_limit=None) if self.value() == "none" else queryset


class LimitForm(GateForm):
    soft_limit = forms.IntegerField(
        min_value=1, max_value=MAX_LIMIT, required=False, help_text="Empty: back to the default."
    )
    reason = forms.CharField(
        max_length=500,
        error_messages={"required": "Say why: the reason goes into the audit trail."},
        widget=forms.TextInput(attrs={"autocomplete": "off", "size": 60}),
    )

    class Meta:
        model = UserGate
        fields = ("soft_limit", "expires_at", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["reason"] = ""  # that of last time is no reason for this time

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        expires_at = self.cleaned_data.get("expires_at")
        if expires_at is not None:
            if expires_at <= database.now():
                self.add_error("expires_at", "This time is over.")
            elif self.cleaned_data.get("soft_limit") is None and "soft_limit" not in self.errors:
                self.add_error("soft_limit", "Give the limit that ends then.")
        return cleaned


@admin.register(UserGate)
class UserGateAdmin(ActingAdmin):
    actions = ("recover_users",)
    guarded_actions = actions
    form = LimitForm
    fields = ("user", "pool", "soft_limit", "expires_at", "reason", "last_reason", "set_by")
    readonly_fields = ("user", "pool", "last_reason", "set_by")
    list_display = ("user", "pool", "soft_limit", "expires_at", "reason", "set_by")
    list_filter = (OverrideFilter,)
    list_select_related = ("user",)
    ordering = ("-pk",)

    @admin.display(description="reason of the last change")
    def last_reason(self, gate: UserGate) -> str:
        """Read again: in a form with errors, the gate at hand bears what was typed."""
        return UserGate.objects.values_list("reason", flat=True).get(pk=gate.pk) or "–"

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return ModelAdmin.has_change_permission(self, request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return goes_with_its_user(request, UserGate) and ModelAdmin.has_delete_permission(self, request, obj)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The admin answers a POST in one transaction, which takes the entry about a failure with it: so, around it."""
        gate = self.get_object(request, unquote(object_id)) if object_id and request.method == "POST" else None
        if gate is None:
            return super().changeform_view(request, object_id, form_url, extra_context)
        reason = request.POST.get("reason", "").strip()
        with attempt(actor_of(request), "set_limit", user=gate.user, target=gate.pool, reason=reason):
            return super().changeform_view(request, object_id, form_url, extra_context)

    def save_model(self, request: HttpRequest, obj: UserGate, form: Any, change: bool) -> None:
        actions.set_limit(
            obj.user,
            obj.pool,
            form.cleaned_data["soft_limit"],
            expires_at=form.cleaned_data["expires_at"],
            reason=form.cleaned_data["reason"],
            actor=actor_of(request),
        )
