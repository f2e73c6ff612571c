"""The list of users: search, filter, order, and checkboxes for a bulk recovery."""

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from connections import database
from console.access import StaffRequest, staff_only
from console.forms import MAX_BULK, BulkRecoverForm, UserSearchForm
from console.reports.users import Sort, Status, find_users
from console.views.shared import UNPROCESSABLE, page


@staff_only
@require_safe
def users(request: StaffRequest) -> HttpResponse:
    return users_page(request)


def users_page(request: StaffRequest, bulk_form: BulkRecoverForm | None = None) -> HttpResponse:
    """Render the list, or its part for htmx; with an invalid bulk form, with status 422."""
    search = UserSearchForm(request.GET)
    search.is_valid()
    asked = search.cleaned_data
    status = Status(asked.get("status") or Status.ALL)
    sort = Sort(asked.get("sort") or Sort.PRESSURE)
    q = asked.get("q", "")
    now = database.now()
    found = find_users(q=q, status=status, sort=sort, after=asked.get("cursor", ""), now=now)
    context = {
        "now": now,
        "found": found,
        "q": q,
        "status": status,
        "sort": sort,
        "statuses": STATUSES,
        "sorts": SORTS,
        "bulk_form": bulk_form or BulkRecoverForm(),
        "chosen": bulk_form.cleaned_data["user_ids"] if bulk_form else [],
        "max_bulk": MAX_BULK,
        "first_page": not asked.get("cursor"),
    }
    # When the user goes back in the browser, htmx sends its header too but needs the whole page.
    part = request.htmx and not request.htmx.history_restore_request
    template = "console/_users.html" if part else "console/users.html"
    return page(request, template, context, status=UNPROCESSABLE if bulk_form else 200)


STATUSES = (
    (Status.ALL, "everyone"),
    (Status.LIMIT, "at or over the limit"),
    (Status.OVER, "over the limit"),
    (Status.HOLDING, "holding managers"),
    (Status.IDLE, "holding none"),
    (Status.DISABLED, "account disabled"),
)
SORTS = (
    (Sort.PRESSURE, "nearest their limit"),
    (Sort.HELD, "most managers"),
    (Sort.USERNAME, "username"),
    (Sort.ID, "id"),
)
