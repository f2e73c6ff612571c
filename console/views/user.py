"""The page of one user: verdict, actions, held managers and timeline."""

from typing import Any

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from connections import database
from connections.models import RecoveryRun, UserGate
from connections.recovery import inspection
from console.access import Account, StaffRequest, staff_only, user_to_view
from console.forms import CloseForm, LimitForm, RecoverForm, ResetForm
from console.reports.managers import held_managers
from console.reports.timeline import timeline_of
from console.reports.usage import usage_of
from console.views.shared import UNPROCESSABLE, Context, page, run_context


@staff_only
@require_safe
def user(request: StaffRequest, user_id: str) -> HttpResponse:
    account = user_to_view(request, user_id)
    if request.htmx and request.GET.get("part") == "facts":
        context = facts_context(account) | {"timeline": timeline_of(account)}
        return page(request, "console/_facts.html", context)
    return user_page(request, account)


def user_page(request: StaffRequest, account: Account, **forms: Any) -> HttpResponse:
    """Render the whole page. An invalid form replaces the empty one, and the status is 422.

    `forms`: `recover_form`, `reset_form`, `limit_form`, or `close_form` with `close_id` of its manager.
    """
    context = (
        facts_context(account)
        | {
            "recover_form": RecoverForm(),
            "reset_form": ResetForm(username=account.get_username()),
            "timeline": timeline_of(account),
        }
        | limit_context(account)
        | forms
    )
    running = RecoveryRun.objects.open().filter(user=account).order_by("-opened_at").first()
    if running is not None:
        # Below its own key, since the page has another `recover_form`.
        context["running"] = run_context(request, running)
    return page(request, "console/user.html", context, status=UNPROCESSABLE if forms else 200)


def facts_context(account: Account) -> Context:
    now = database.now()
    return {
        "account": account,
        "now": now,
        "verdict": inspection.diagnose_user(account, now),
        "usage": usage_of([account.pk], now)[account.pk],
        "managers": held_managers(account, now),
        "close_form": CloseForm(),
    }


def limit_context(account: Account) -> Context:
    now = database.now()
    usage = usage_of([account.pk], now)[account.pk]
    return {
        "account": account,
        "usage": usage,
        "overrides": UserGate.objects.filter(user=account).overridden(now).order_by("pool"),
        "limit_form": LimitForm(initial={"pool": usage.fullest.pool}),
    }
