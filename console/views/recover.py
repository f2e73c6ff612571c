"""Check, recover and reset. Each opens a run; recover and reset join the open one."""

from django.contrib import messages
from django.http import HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_POST

from connections.policy.states import RunKind
from connections.records.staff import actor_of
from connections.recovery import runs
from connections.recovery.bulk import recover_each
from console.access import (
    Account,
    Right,
    StaffRequest,
    require,
    staff_only,
    user_to_recover,
    user_to_reset,
    user_to_view,
)
from console.forms import BulkRecoverForm, CheckForm, RecoverForm, ResetForm
from console.reports.runs import run_view
from console.reports.users import by_keys
from console.views.shared import SeeOther, confirm_form, form_again, page, run_answer
from console.views.user import limit_context, user_page
from console.views.users import users_page


@staff_only
@require_POST
def check(request: StaffRequest, user_id: str) -> HttpResponse:
    account = user_to_view(request, user_id)
    form = CheckForm(request.POST)
    if not form.is_valid():
        return user_page(request, account, check_form=form)
    run, joined = runs.request(
        account,
        RunKind.CLEANUP,
        actor=actor_of(request),
        reason=form.cleaned_data["reason"],
        dry_run=True,
        action="check",
    )
    return run_answer(request, run, joined=joined)


@staff_only
@require_POST
def recover(request: StaffRequest, user_id: str) -> HttpResponse:
    account = user_to_recover(request, user_id)
    form = RecoverForm(request.POST)
    if not form.is_valid():
        return _recover_again(request, account, form)
    run, joined = runs.request(
        account,
        RunKind.CLEANUP,
        actor=actor_of(request),
        reason=form.cleaned_data["reason"],
        dry_run=form.cleaned_data["dry_run"],
    )
    return run_answer(request, run, joined=joined)


def _recover_again(request: StaffRequest, account: Account, form: RecoverForm) -> HttpResponse:
    if not request.htmx:
        return user_page(request, account, recover_form=form)
    preview = account.recovery_runs.filter(pk=form.cleaned_data.get("preview"), dry_run=True).first()
    if preview is None:
        return form_again(
            request, "recover-form", "console/_recover_form.html", {"account": account, "recover_form": form}
        )
    context = {"account": account, "recover_form": confirm_form(data=request.POST), "view": run_view(preview)}
    return form_again(request, "confirm-form", "console/_confirm_form.html", context)


@staff_only
@require_POST
def reset(request: StaffRequest, user_id: str) -> HttpResponse:
    account = user_to_reset(request, user_id)
    form = ResetForm(request.POST, username=account.get_username())
    if not form.is_valid():
        if request.htmx:
            context = limit_context(account) | {"reset_form": form}
            return form_again(request, "reset-form", "console/_reset_form.html", context)
        return user_page(request, account, reset_form=form)
    run, joined = runs.request(account, RunKind.RESET, actor=actor_of(request), reason=form.cleaned_data["reason"])
    return run_answer(request, run, joined=joined)


@staff_only
@require_POST
def bulk_recover(request: StaffRequest) -> HttpResponse:
    require(request, Right.RECOVER, target="several users")
    form = BulkRecoverForm(request.POST)
    if not form.is_valid():
        return users_page(request, bulk_form=form)
    asked = form.cleaned_data["user_ids"]
    accounts = by_keys(asked)
    done = recover_each(accounts, actor_of(request), form.cleaned_data["reason"])
    said = done.sentences()
    if len(accounts) < len(asked):
        said.append(f"{len(asked) - len(accounts)} of the users no longer exist.")
    if request.htmx:
        return page(request, "console/_bulk_result.html", {"said": said, "complete": done.complete})
    messages.add_message(request, messages.INFO if done.complete else messages.ERROR, " ".join(said))
    return SeeOther(reverse("console:runs"))
