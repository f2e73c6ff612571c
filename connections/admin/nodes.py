"""Nodes: the leases of server processes, and how they ended."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from connections import database
from connections.admin.lists import InspectionAdmin, as_uuid
from connections.conf import tunables
from connections.models import Node


class EndFilter(admin.SimpleListFilter):
    title = "end"
    parameter_name = "end"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("none", "Neither fenced nor retired"), ("fenced", "Fenced"), ("retired", "Retired")]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        match self.value():
            case "none":
                return queryset.filter(fenced_at=None, retired_at=None)
            case "fenced":
                return queryset.filter(fenced_at__isnull=False)
            case "retired":
                return queryset.filter(retired_at__isnull=False)
        return queryset


@admin.register(Node)
class NodeAdmin(InspectionAdmin):
    list_display = ("name", "status", "host", "pid", "sockets", "started_at", "renewed_at", "lease_expires_at")
    list_filter = (EndFilter,)
    ordering = ("-started_at",)
    search_help_text = "The name or the id of a node."

    def matching(self, term: str) -> Q:
        key = as_uuid(term)
        return Q(name=term) if key is None else Q(pk=key)

    @admin.display(description="status")
    def status(self, node: Node) -> str:
        return node.state_at(database.now(), tunables().late_seconds).value
