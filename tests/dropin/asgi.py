"""The adopter's routes. Each consumer is served twice, bare (`/bare/…`) and wrapped (`/ws/…`), to compare the two."""

import os
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.dropin.settings")
http = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator, WebsocketDenier  # noqa: E402
from django.urls import path, re_path  # noqa: E402

from connections.admission import Guard, SoftLimitMiddleware  # noqa: E402
from tests.dropin.consumers import KINDS, Echo, Room  # noqa: E402

# Any, since Django's path() is typed for views.
limited: Any = SoftLimitMiddleware
nowhere: Any = WebsocketDenier.as_asgi()
wrapped: list[Any] = [
    *(path(f"ws/{kind}/", limited(consumer)) for kind, consumer in KINDS.items()),
    path("orders/", limited(Room.as_asgi(), pool="orders", inject=True)),
    path("private/", limited(Echo.as_asgi(), pool="private", login_required=True, soft_limit=2, burst=1)),
    re_path(r"", nowhere),
]
sockets: Any = Guard(AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(wrapped))))


def as_it_was(consumer: Any) -> Any:
    return AllowedHostsOriginValidator(AuthMiddlewareStack(consumer))


bare: list[Any] = [path(f"bare/{kind}/", as_it_was(consumer)) for kind, consumer in KINDS.items()]
application = ProtocolTypeRouter({"http": http, "websocket": URLRouter([*bare, re_path(r"", sockets)])})
