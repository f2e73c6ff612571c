"""The limit of one user in one pool."""

from django.contrib import messages
from django.http import HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_POST

from connections import database
from connections.records.staff import actor_of
from connections.recovery import actions
from console.access import StaffRequest, staff_only, user_to_limit
from console.forms import LimitForm
from console.views.shared import SeeOther, facts_changed, form_again, page
from console.views.user import limit_context, user_page


@staff_only
@require_POST
def limit(request: StaffRequest, user_id: str) -> HttpResponse:
    account = user_to_limit(request, user_id)
    form = LimitForm(request.POST)
    if not form.is_valid():
        if request.htmx:
            context = limit_context(account) | {"limit_form": form}
            return form_again(request, "limit-form", "console/_limit_form.html", context)
        return user_page(request, account, limit_form=form)
    asked = form.cleaned_data
    wanted = None if asked["clear"] else asked["soft_limit"]
    length = None if wanted is None else asked["expires_in"]
    actions.set_limit(
        account,
        asked["pool"],
        wanted,
        expires_at=database.now() + length if length else None,
        reason=asked["reason"],
        actor=actor_of(request),
    )
    said = f"The limit in {asked['pool']} is {'the default again' if wanted is None else f'now {wanted}'}."
    if request.htmx:
        return facts_changed(page(request, "console/_limit_form.html", limit_context(account) | {"said": said}))
    messages.success(request, said)
    return SeeOther(reverse("console:user", args=[account.pk]))
