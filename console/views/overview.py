"""The first page: figures, users at their limit, nodes and the latest runs."""

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from connections import database
from console.access import StaffRequest, staff_only
from console.reports.overview import read_overview
from console.reports.runs import recent_runs
from console.views.shared import page

RUNS_SHOWN = 5


@staff_only
@require_safe
def overview(request: StaffRequest) -> HttpResponse:
    now = database.now()
    context = {"now": now, "overview": read_overview(now), "runs": recent_runs(RUNS_SHOWN)}
    part = request.htmx and request.GET.get("part") == "live"
    return page(request, "console/_overview.html" if part else "console/overview.html", context)
