"""Limits: one gate per user and pool. `actions.set_limit` sets an override, with a reason."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from connections import database
from connections.admin.acting import ActingAdmin, reason_field
from connections.admin.lists import ModelAdmin, goes_with_its_user
from connections.models import UserGate
from connections.records.audit import audited
from connections.records.staff import actor_of
from connections.recovery import actions

if TYPE_CHECKING:
    GateForm = forms.ModelForm[UserGate]
else:
    GateForm = forms.ModelForm

MAX_LIMIT = 100_000  # far above any real use, and within the column's range


class OverrideFilter(admin.SimpleListFilter):
    title = "override"
    parameter_name = "override"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("set", "Set"), ("none", "Not set")]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        if self.value() == "set":
            return queryset.filter(soft_limit__isnull=False)
        return queryset.filter(soft_limit=None) if self.value() == "none" else queryset


class LimitForm(GateForm):
    soft_limit = forms.IntegerField(
        min_value=1, max_value=MAX_LIMIT, required=False, help_text="Leave empty for the default limit."
    )
    reason = reason_field()

    class Meta:
        model = UserGate
        fields = ("soft_limit", "expires_at", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["reason"] = ""  # the reason of the last change does not apply to this one

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        expires_at = self.cleaned_data.get("expires_at")
        if expires_at is not None:
            if expires_at <= database.now():
                self.add_error("expires_at", "This time has passed.")
            elif self.cleaned_data.get("soft_limit") is None and "soft_limit" not in self.errors:
                self.add_error("soft_limit", "Enter the limit that ends at this time.")
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
        """Read the stored reason: in a form with errors, `gate` holds the typed one."""
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
        """Audit around the admin's own transaction, which would roll back the entry about a failure."""
        gate = self.get_object(request, unquote(object_id)) if object_id and request.method == "POST" else None
        if gate is None:
            return super().changeform_view(request, object_id, form_url, extra_context)
        reason = request.POST.get("reason", "").strip()
        with audited(actor_of(request), "set_limit", user=gate.user, target=gate.pool, reason=reason):
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
