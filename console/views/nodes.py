"""The nodes, and the order to drain one."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from connections import database
from connections.records.staff import actor_of
from connections.recovery import actions
from console.access import StaffRequest, node_to_drain, staff_only
from console.forms import DrainForm
from console.reports.nodes import current_nodes, gone_nodes, node_row
from console.views.shared import UNPROCESSABLE, Context, SeeOther, page


@staff_only
@require_safe
def nodes(request: StaffRequest) -> HttpResponse:
    template = "console/_nodes.html" if request.htmx and request.GET.get("part") == "nodes" else "console/nodes.html"
    return page(request, template, _context())


def _context() -> Context:
    now = database.now()
    return {"now": now, "current": current_nodes(now), "gone": gone_nodes(now), "drain_form": DrainForm()}


@staff_only
@require_POST
def drain(request: StaffRequest, node_id: UUID) -> HttpResponse:
    node = node_to_drain(request, node_id)
    form = DrainForm(request.POST)
    if not form.is_valid():
        wrong = {"drain_form": form, "drain_id": node.pk}
        if request.htmx:
            context = {"row": node_row(node, database.now())} | wrong
            return page(request, "console/_node.html", context, status=UNPROCESSABLE)
        return page(request, "console/nodes.html", _context() | wrong, status=UNPROCESSABLE)
    done = actions.drain(node, actor=actor_of(request), reason=form.cleaned_data["reason"])
    said = "The node is asked to drain." if done else "The node was already draining or has ended. Nothing was done."
    if request.htmx:
        node.refresh_from_db()
        context = {"row": node_row(node, database.now()), "drain_form": DrainForm(), "said": said}
        return page(request, "console/_node.html", context)
    messages.info(request, f"{node.name}: {said}")
    return SeeOther(reverse("console:nodes"))
