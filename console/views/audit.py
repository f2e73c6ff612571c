"""The audit trail, as a page and as a file for a spreadsheet."""

import csv
from collections.abc import AsyncIterator
from io import StringIO
from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse, StreamingHttpResponse
from django.views.decorators.http import require_safe

from connections import database
from connections.models import AuditEntry
from console.access import Right, StaffRequest, require, staff_only
from console.forms import AuditFilterForm
from console.reports.audit import AuditFilter, actions_known, audit_batches, audit_page
from console.views.shared import page

COLUMNS = ("at", "actor_kind", "actor", "ip", "action", "user_id", "user", "target", "reason", "outcome", "run")


@staff_only
@require_safe
def audit(request: StaffRequest) -> HttpResponse:
    require(request, Right.AUDIT)
    form, wanted = _asked(request)
    found = audit_page(wanted, form.cleaned_data.get("cursor", ""))
    chosen = {name: value for name, value in request.GET.items() if name != "cursor" and value}
    context = {
        "form": form,
        "found": found,
        "actions": actions_known(),
        "query": urlencode(chosen),
        "first_page": not form.cleaned_data.get("cursor"),
    }
    return page(request, "console/audit.html", context)


@staff_only
@require_safe
def audit_csv(request: StaffRequest) -> StreamingHttpResponse:
    require(request, Right.AUDIT)
    _, wanted = _asked(request)
    name = f"audit-{database.now():%Y%m%d-%H%M%S}.csv"
    return StreamingHttpResponse(
        _lines(wanted),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _asked(request: StaffRequest) -> tuple[AuditFilterForm, AuditFilter]:
    """Return the form and the filter. An invalid field filters nothing, and the form shows its error."""
    form = AuditFilterForm(request.GET)
    form.is_valid()
    given = {name: value for name, value in form.cleaned_data.items() if name != "cursor" and value}
    return form, AuditFilter(**given)


async def _lines(wanted: AuditFilter) -> AsyncIterator[str]:
    yield _csv([COLUMNS])
    async for batch in audit_batches(wanted):
        yield _csv([_row(entry) for entry in batch])


def _row(entry: AuditEntry) -> tuple[Any, ...]:
    cells = (
        entry.at.isoformat(),
        entry.actor_kind,
        entry.actor,
        entry.ip,
        entry.action,
        entry.user_id,
        entry.user_label,
        entry.target,
        entry.reason,
        entry.outcome,
        entry.run_id,
    )
    return tuple(harmless(cell) for cell in cells)


def harmless(cell: object) -> str:
    """Return a cell that no spreadsheet takes for a formula: its text may come from end users."""
    text = "" if cell is None else str(cell)
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") or text[:1] in ("\t", "\r", "\n") else text


def _csv(rows: list[tuple[Any, ...]]) -> str:
    buffer = StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()
