"""What all our lists share: they are read-only, stay quick on large tables, and search through indexed columns."""

from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    AnyPaginator = Paginator[Any]
else:
    ModelAdmin = admin.ModelAdmin
    AnyPaginator = Paginator

MAX_LISTED = 1000  # rows that a list pages through; nobody reads more, and counting them stays cheap
MAX_USERS_FOUND = 100  # users that one search term may stand for


class CappedPaginator(AnyPaginator):
    """Counts no further than the list goes, whatever the size of the table."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        found: int = rows.order_by()[:MAX_LISTED].count()
        return found


class InspectionAdmin(ModelAdmin):
    """A list and pages of facts. Subclasses say in `matching` what a search term means."""

    actions_selection_counter = False
    list_per_page = 50
    paginator = CappedPaginator
    show_facets = admin.ShowFacets.NEVER  # each would count the whole table
    show_full_result_count = False
    sortable_by = ()  # only the order that an index has
    search_fields = ("pk",)  # there is a search; what it does is in `matching`
    search_help_text = "A username or its beginning, or #id."

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def matching(self, term: str) -> Q:
        """The rows that a search term stands for."""
        return Q(user_id__in=users_named(term))

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[Any]", search_term: str
    ) -> tuple["QuerySet[Any]", bool]:
        term = search_term.strip()
        return (queryset.filter(self.matching(term)) if term else queryset), False


def goes_with_its_user(request: HttpRequest, model: Any) -> bool:
    """Whether a row of this model is asked for because its user is being deleted. From its own pages it is not."""
    match = request.resolver_match
    own = f"{model._meta.app_label}_{model._meta.model_name}_"
    return match is not None and not (match.url_name or "").startswith(own)


def users_named(term: str) -> list[Any]:
    """Keys of the users whom a search term stands for: `#id`, or the beginning of usernames, the exact one first."""
    model = get_user_model()
    users = model._default_manager
    if term.startswith("#"):
        try:
            return list(users.filter(pk=term[1:]).values_list("pk", flat=True))
        except (ValueError, ValidationError, OverflowError):
            return []
    field = model.USERNAME_FIELD
    exact = users.filter(**{field: term}).values_list("pk", flat=True)
    begin = users.filter(**{f"{field}__startswith": term}).order_by(field).values_list("pk", flat=True)
    return list(dict.fromkeys([*exact, *begin[:MAX_USERS_FOUND]]))


def as_uuid(term: str) -> UUID | None:
    try:
        return UUID(term)
    except ValueError:
        return None
