"""Manager records: the held ones by default, the closed ones in the order of closing."""

from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.db.models.expressions import Combinable
from django.http import HttpRequest

from connections.admin.acting import ActingAdmin
from connections.admin.lists import as_uuid, users_named
from connections.models import ManagerRecord, Node
from connections.policy.states import RecordState

_REASON = "close_reason__exact"  # the query parameter of Django's filter by close reason


class StateFilter(admin.SimpleListFilter):
    """Show held records by default; a search shows all, and a close reason shows closed ones."""

    title = "state"
    parameter_name = "held"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("live", "Live"), ("closing", "Closing"), ("closed", "Closed")]

    def choices(self, changelist: Any) -> Any:
        every = super().choices(changelist)
        first = next(every)
        yield {**first, "display": "Held (a search: all, a reason: closed)"}
        yield from every

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        match self.value():
            case RecordState.LIVE:
                return queryset.counted()
            case RecordState.CLOSING:
                return queryset.closing()
            case RecordState.CLOSED:
                return queryset.closed()
        if request.GET.get("q", "").strip():
            return queryset
        return queryset.closed() if _REASON in request.GET else queryset.held()


@admin.register(ManagerRecord)
class ManagerRecordAdmin(ActingAdmin):
    actions = ("recover_users", "close_managers")
    guarded_actions = actions
    list_display = (
        "short_id", "user", "pool", "node", "state", "close_reason", "opened_at", "last_active_at", "closed_at",
    )  # fmt: skip
    list_filter = (StateFilter, "close_reason")
    list_select_related = ("user", "node")
    search_help_text = "A username or its beginning, #id of a user, the id of a manager, or the name of a node."

    @admin.display(description="id")
    def short_id(self, record: ManagerRecord) -> str:
        return str(record.pk)[:8]

    def matching(self, term: str) -> Q:
        key = as_uuid(term)
        if key is not None:
            return Q(pk=key) | Q(node_id=key, closed_at=None)
        nodes = list(Node.objects.filter(name=term).order_by("-started_at").values_list("pk", flat=True)[:20])
        found = Q(user_id__in=users_named(term))
        # Only held records have an index by node: searching the history would scan the table.
        return found | Q(node_id__in=nodes, closed_at=None) if nodes else found

    def get_ordering(self, request: HttpRequest) -> tuple[str | Combinable, ...]:
        if request.GET.get(StateFilter.parameter_name) == RecordState.CLOSED or _REASON in request.GET:
            return ("-closed_at",)
        return ("-opened_at",)
