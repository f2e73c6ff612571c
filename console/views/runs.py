"""Runs: the latest ones, and the progress and result of one."""

from uuid import UUID

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from connections.recovery.runs import advance
from console.access import StaffRequest, run_to_view, staff_only
from console.reports.runs import recent_runs
from console.views.shared import facts_changed, page, run_context

SHOWN = 100


@staff_only
@require_safe
def runs(request: StaffRequest) -> HttpResponse:
    return page(request, "console/runs.html", {"runs": recent_runs(SHOWN)})


@staff_only
@require_safe
def run(request: StaffRequest, run_id: UUID) -> HttpResponse:
    shown = run_to_view(request, run_id)
    if shown.finished_at is None:
        # The page advances the run that it waits for, so that the run ends even if no process is a node yet.
        advance(shown.pk)
        shown = run_to_view(request, run_id)
    context = run_context(request, shown)
    if request.htmx and request.GET.get("part") == "run":
        response = page(request, "console/_run.html", context)
        return response if context["view"].open else facts_changed(response)
    return page(request, "console/run.html", context)
