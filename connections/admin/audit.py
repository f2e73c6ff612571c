"""The audit trail, read-only."""

from django.contrib import admin
from django.db.models import Q

from connections.admin.lists import InspectionAdmin, as_uuid, users_named
from connections.models import AuditEntry


@admin.register(AuditEntry)
class AuditEntryAdmin(InspectionAdmin):
    list_display = ("at", "actor", "action", "user_label", "target", "reason", "outcome", "ip")
    list_filter = ("actor_kind",)
    ordering = ("-at",)
    search_help_text = "A username (of the actor or of the user concerned) or its beginning, #id, or the id of a run."

    def matching(self, term: str) -> Q:
        key = as_uuid(term)
        if key is not None:
            return Q(run_id=key)
        users = users_named(term)
        return Q(user_id__in=users) | Q(actor_user_id__in=users)
