"""HTTP middleware of the project."""

from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

# Django 6 has its own setting for the policy; Django 5.2, which is supported too, has none.
# `img-src data:`: Pico's stylesheet has its icons (arrows, ticks) as data URLs.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

Handler = Callable[[HttpRequest], HttpResponseBase]
AsyncHandler = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def content_security_policy(get_response: Handler | AsyncHandler) -> Handler | AsyncHandler:
    """Add the policy to every response, also to static files and errors."""

    def with_policy(response: HttpResponseBase) -> HttpResponseBase:
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response

    if iscoroutinefunction(get_response):
        handle = cast("AsyncHandler", get_response)

        async def asynchronous(request: HttpRequest) -> HttpResponseBase:
            return with_policy(await handle(request))

        return asynchronous
    handle_now = cast("Handler", get_response)
    return lambda request: with_policy(handle_now(request))
