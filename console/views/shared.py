"""Shared by all views: how to render a page, a fragment, and the answer to an action."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django_htmx.http import reswap, retarget, trigger_client_event

from connections import database
from connections.models import RecoveryRun
from console.access import Rights, StaffRequest
from console.forms import RecoverForm
from console.reports.runs import RunView, run_view

FACTS_CHANGED = "facts-changed"  # the browser event on which a page fetches its facts again
UNPROCESSABLE = 422
Context = dict[str, Any]


class SeeOther(HttpResponseRedirect):
    """After a POST: the browser reads the result with a GET, which a reload may repeat."""

    status_code = 303


def page(request: StaffRequest, template: str, context: Context, *, status: int = 200) -> HttpResponse:
    """Render a page or a fragment, with `now`, `rights` and `section`, which every template reads."""
    shared = {"now": database.now(), "rights": Rights.of(request), "section": _section(request)}
    return render(request, template, shared | context, status=status)


def _section(request: StaffRequest) -> str:
    """Return the navigation entry of a page: the first part of its path."""
    return request.path.removeprefix(reverse("console:overview")).partition("/")[0] or "overview"


def form_again(request: StaffRequest, form_id: str, template: str, context: Context) -> HttpResponse:
    """For htmx: render a form again in its own place, with its errors and the values that were typed."""
    response = page(request, template, context, status=UNPROCESSABLE)
    return reswap(retarget(response, f"#{form_id}"), "outerHTML")


def facts_changed(response: HttpResponse) -> HttpResponse:
    return trigger_client_event(response, FACTS_CHANGED)


def run_answer(request: StaffRequest, run: RecoveryRun, *, joined: bool) -> HttpResponse:
    """Answer an action that opened or joined a run."""
    if request.htmx:
        return facts_changed(page(request, "console/_run.html", run_context(request, run) | {"joined": joined}))
    if joined:
        messages.info(request, "A recovery of this user was already under way. Your reason is added to it.")
    return SeeOther(reverse("console:run", args=[run.pk]))


def run_context(request: StaffRequest, run: RecoveryRun) -> Context:
    """Return the context of `_run.html`; for a finished preview with the form that does what the preview showed."""
    view = run_view(run)
    context: Context = {"view": view, "run": run, "account": run.user}
    if offers_recovery(view) and Rights.of(request).recover:
        context["recover_form"] = confirm_form(initial={"preview": run.pk})
    return context


def offers_recovery(view: RunView) -> bool:
    return view.run.dry_run and not view.open and view.run.user is not None and view.freed > 0


def confirm_form(**kwargs: Any) -> RecoverForm:
    """Return the recover form below a preview. Its field ids differ from those of the page's other recover form."""
    return RecoverForm(auto_id="confirm-%s", **kwargs)
