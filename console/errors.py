"""Answers to failed requests: in words, and without another query."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.utils.cache import add_never_cache_headers

from connections import database
from connections.records.audit import in_a_line

logger = logging.getLogger(__name__)
P = ParamSpec("P")
Request = TypeVar("Request", bound=HttpRequest)
View = Callable[Concatenate[Request, P], HttpResponseBase]

AWAY = "The database does not answer. Wait a moment, then reload the page to see what was done, and try again."
LOCKED = "Another transaction holds a lock that this needs, so nothing was done. Try again in a moment."
ANSWERED_BY_DJANGO = (Http404, PermissionDenied, SuspiciousOperation)


def answer_errors(view: View[Request, P]) -> View[Request, P]:
    """Answer 503 if the database is away or another transaction holds a lock, and 500 if an action fails; htmx gets a
    fragment.

    Any other failure of a page is a bug, which Django answers.
    """

    @wraps(view)
    def answered(request: Request, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        try:
            return view(request, *args, **kwargs)
        except ANSWERED_BY_DJANGO:
            raise
        except Exception as error:
            if database.is_busy(error):
                return _locked(request, error)
            if database.is_away(error):
                logger.warning("database_unreachable", extra={"path": request.path, "error": str(error)})
                return _error_response(request, AWAY, status=503)
            if request.method != "POST":
                raise
            logger.exception("action_failed", extra={"path": request.path})
            said = f"The action failed: {in_a_line(error)}. The error is logged. Reload the page to see what was done."
            return _error_response(request, said, status=500)

    return answered


def _locked(request: HttpRequest, error: Exception) -> HttpResponse:
    logger.warning("page_found_lock", extra={"path": request.path, "error": str(error)})
    return _error_response(request, LOCKED, status=503)


def _error_response(request: HttpRequest, said: str, *, status: int) -> HttpResponse:
    template = "console/_failed.html" if request.headers.get("HX-Request") else "console/failed.html"
    response = HttpResponse(render_to_string(template, {"said": said, "away": status == 503}), status=status)
    add_never_cache_headers(response)
    return response
