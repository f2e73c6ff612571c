"""Refused handshakes."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from connections.admin.lists import InspectionAdmin, ModelAdmin, goes_with_its_user
from connections.models import Refusal


@admin.register(Refusal)
class RefusalAdmin(InspectionAdmin):
    list_display = ("at", "user", "cause", "count", "node", "until")
    list_filter = ("cause",)
    list_select_related = ("user", "node")
    ordering = ("-at",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return goes_with_its_user(request, Refusal) and ModelAdmin.has_delete_permission(self, request, obj)
