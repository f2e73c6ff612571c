"""Base of all lists: read-only, quick on large tables, searched through indexed columns."""

from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest

from connections.models.routing import users

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    AnyPaginator = Paginator[Any]
else:
    ModelAdmin = admin.ModelAdmin
    AnyPaginator = Paginator

MAX_LISTED = 1000  # rows that a list pages through: enough to read, and cheap to count
MAX_USERS_FOUND = 100  # users that one search term may stand for


class CappedPaginator(AnyPaginator):
    """Count at most MAX_LISTED rows, however large the table is."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        found: int = rows.order_by()[:MAX_LISTED].count()
        return found


def column(model: Any, name: str) -> Any:
    """Return what the admin is to show as column `name`: the name itself, or for a field with choices a function that
    gives the stored word. Django would show a word that only a newer version has as if it were empty.
    """
    found = {field.name: field for field in model._meta.get_fields()}.get(name)
    if not getattr(found, "choices", None):
        return name

    def shown(row: Model) -> str:
        return str(getattr(row, f"get_{name}_display")())

    return admin.display(description=name.replace("_", " "), empty_value="-")(shown)


class InspectionAdmin(ModelAdmin):
    """A read-only list with read-only pages. Subclasses define the search in `matching`."""

    actions_selection_counter = False
    list_per_page = 50
    paginator = CappedPaginator
    show_facets = admin.ShowFacets.NEVER  # facets count the whole table
    show_full_result_count = False
    sortable_by = ()  # only the order of an index
    search_fields = ("pk",)  # not empty, so that the admin shows a search field; see `matching`
    search_help_text = "A username or its beginning, or #id."

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [column(self.model, name) for name in self.list_display if isinstance(name, str)]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [column(self.model, name) for name in super().get_fields(request, obj) if isinstance(name, str)]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def matching(self, term: str) -> Q:
        """Return the condition for a search term."""
        return Q(user_id__in=users_named(term))

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[Any]", search_term: str
    ) -> tuple["QuerySet[Any]", bool]:
        term = search_term.strip()
        return (queryset.filter(self.matching(term)) if term else queryset), False


def goes_with_its_user(request: HttpRequest, model: Any) -> bool:
    """Whether the request deletes a row of this model along with its user, and not from the model's own pages."""
    match = request.resolver_match
    own = f"{model._meta.app_label}_{model._meta.model_name}_"
    return match is not None and not (match.url_name or "").startswith(own)


def users_named(term: str) -> list[Any]:
    """Return the keys of the users that match `#id` or the beginning of a username, an exact match first."""
    model = get_user_model()
    if term.startswith("#"):
        try:
            return list(users().filter(pk=term[1:]).values_list("pk", flat=True))
        except (ValueError, ValidationError, OverflowError):
            return []
    field = model.USERNAME_FIELD
    exact = users().filter(**{field: term}).values_list("pk", flat=True)
    begin = users().filter(**{f"{field}__startswith": term}).order_by(field).values_list("pk", flat=True)
    return list(dict.fromkeys([*exact, *begin[:MAX_USERS_FOUND]]))


def as_uuid(term: str) -> UUID | None:
    try:
        return UUID(term)
    except ValueError:
        return None
