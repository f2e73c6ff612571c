"""Recovery runs, with their steps and findings."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import F, Q
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from connections.admin.lists import InspectionAdmin, as_uuid, users_named
from connections.models import RecoveryRun, RunStep

if TYPE_CHECKING:
    TabularInline = admin.TabularInline[Any, Any]
else:
    TabularInline = admin.TabularInline


class RunStepInline(TabularInline):
    model = RunStep
    fields = ("taken", "at", "detail", "error")
    readonly_fields = fields
    extra = 0
    can_delete = False

    @admin.display(description="step")
    def taken(self, row: RunStep) -> str:
        return str(row.get_step_display())

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("connections.view_recoveryrun"))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(RecoveryRun)
class RecoveryRunAdmin(InspectionAdmin):
    list_display = (
        "short_id", "user_label", "kind", "dry_run", "step", "outcome", "before", "after", "actor",
        "opened_at", "finished_at",
    )  # fmt: skip
    list_filter = ("kind", "dry_run", "outcome", "actor_kind")
    exclude = ("stock", "findings")
    readonly_fields = ("found",)
    inlines = (RunStepInline,)
    ordering = (F("finished_at").desc(nulls_first=True),)  # open ones first
    search_help_text = "A username or its beginning, #id of a user, or the id of a run."

    @admin.display(description="id")
    def short_id(self, run: RecoveryRun) -> str:
        return str(run.pk)[:8]

    def matching(self, term: str) -> Q:
        key = as_uuid(term)
        return Q(user_id__in=users_named(term)) if key is None else Q(pk=key)

    @admin.display(description="found")
    def found(self, run: RecoveryRun) -> SafeString | str:
        """Show one line per manager."""
        lines = (
            (found["id"], found["node"], found["verdict"], found["action"], found["evidence"]) for found in run.findings
        )
        return format_html_join("", "<p><code>{}</code> on {}: {}, {}. {}</p>", lines) or "nothing"
