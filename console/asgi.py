"""The ASGI application. The only file that orders middleware and routes."""

import os
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
http = get_asgi_application()  # before the imports that need the app registry

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator, WebsocketDenier  # noqa: E402
from django.urls import path, re_path  # noqa: E402

from connections.admission import Guard, SoftLimitMiddleware  # noqa: E402
from connections.chat.consumers import ChatConsumer  # noqa: E402

# Any: Django types path() for views only, but Channels routes with it too.
chat: Any = SoftLimitMiddleware(ChatConsumer.as_asgi(), pool="chat", inject=True, login_required=True)
nowhere: Any = WebsocketDenier.as_asgi()
routes: list[Any] = [path("ws/chat/", chat), re_path(r"", nowhere)]

application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": Guard(AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(routes))), inject=True),
    }
)
