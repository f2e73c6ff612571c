"""The ASGI application under test: one echo consumer on three routes, one for each variant, all with session auth.

All other routes are the project's own.
"""

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.urls import path, re_path

from benchmarks.routes import BARE, INJECTED, POOL, VARIANTS, WRAPPED
from connections.admission import Guard, SoftLimitMiddleware
from console.asgi import application as project


class Echo(AsyncWebsocketConsumer):
    """A consumer as an adopter would write it: it knows nothing of the middleware."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data, bytes_data=bytes_data)


def _bare() -> Any:
    return AllowedHostsOriginValidator(AuthMiddlewareStack(Echo.as_asgi()))


def _wrapped(*, inject: bool) -> Any:
    limited = SoftLimitMiddleware(Echo.as_asgi(), pool=POOL, inject=inject, login_required=True)
    return Guard(AllowedHostsOriginValidator(AuthMiddlewareStack(limited)), inject=inject)


_routes: list[Any] = [
    path(VARIANTS[BARE][1:], _bare()),
    path(VARIANTS[WRAPPED][1:], _wrapped(inject=False)),
    path(VARIANTS[INJECTED][1:], _wrapped(inject=True)),
    re_path(r"", project),  # type: ignore[arg-type]  # typed for Django views; Channels passes applications
]
application = ProtocolTypeRouter({"http": project, "websocket": URLRouter(_routes)})
