"""One manager, closed by staff."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_POST

from connections import database
from connections.records.staff import actor_of
from connections.recovery import actions
from console.access import StaffRequest, manager_to_close, staff_only
from console.forms import CloseForm
from console.reports.managers import manager_row
from console.views.shared import UNPROCESSABLE, SeeOther, facts_changed, page
from console.views.user import user_page


@staff_only
@require_POST
def close_manager(request: StaffRequest, manager_id: UUID) -> HttpResponse:
    record = manager_to_close(request, manager_id)
    form = CloseForm(request.POST)
    if not form.is_valid():
        if request.htmx:
            context = {"row": manager_row(record, database.now()), "close_form": form, "close_id": record.pk}
            return page(request, "console/_manager.html", context, status=UNPROCESSABLE)
        return user_page(request, record.user, close_form=form, close_id=record.pk)
    done = actions.close_manager(record, actor=actor_of(request), reason=form.cleaned_data["reason"])
    said = "Its node is asked to close it." if done else "It was already closed. Nothing was done."
    if request.htmx:
        record.refresh_from_db()
        context = {"row": manager_row(record, database.now()), "close_form": CloseForm(), "said": said}
        return facts_changed(page(request, "console/_manager.html", context))
    messages.info(request, f"Manager {str(record.pk)[:8]}: {said}")
    return SeeOther(reverse("console:user", args=[record.user_id]))
