"""Applications that misbehave, each wrapped in the real middleware as an engineer would wrap their own.

At `/ws/<name>/` with frames of ours, at `/plain/<name>/` without; everything else is the project's own. All but
`silent` accept, say `ready` with the manager's id, and then do what their name says at the first frame.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.urls import path, re_path

from connections.admission import Guard, SoftLimitMiddleware
from console.asgi import application as project

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

SLOW_SECONDS = 0.2  # that `slow` takes for a frame
SWALLOW_SECONDS = 30.0  # that `swallow` resists its cancellation


async def _ready(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await _say(send, type="ready", manager=str(scope["manager"].id))


async def _say(send: Send, **frame: object) -> None:
    await send({"type": "websocket.send", "text": json.dumps(frame)})


async def echo(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _ready(scope, receive, send)
    while (event := await receive())["type"] == "websocket.receive":
        await _say(send, type="echo", text=event["text"])


async def slow(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _ready(scope, receive, send)
    while (await receive())["type"] == "websocket.receive":
        await asyncio.sleep(SLOW_SECONDS)


async def raises(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _ready(scope, receive, send)
    await receive()
    raise ValueError("a handler that raises")


async def returns(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _ready(scope, receive, send)
    await receive()


async def stuck(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _ready(scope, receive, send)
    await receive()
    await asyncio.Event().wait()


async def swallow(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _ready(scope, receive, send)
    await receive()
    until = time.monotonic() + SWALLOW_SECONDS
    while (left := until - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue  # what no application should do


async def silent(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def flood(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _ready(scope, receive, send)
    await receive()
    while True:
        await _say(send, type="padding", text="x" * 50_000)
        await asyncio.sleep(0.005)


async def large(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _ready(scope, receive, send)
    wanted = json.loads((await receive())["text"])
    for _ in range(wanted["count"]):
        await _say(send, type="padding", text="x" * wanted["size"])
    while (await receive())["type"] == "websocket.receive":
        pass


APPS = {
    "echo": echo,
    "slow": slow,
    "raise": raises,
    "return": returns,
    "stuck": stuck,
    "swallow": swallow,
    "silent": silent,
    "flood": flood,
    "large": large,
}


def _wrapped(app: Any, *, inject: bool) -> Any:
    limited = SoftLimitMiddleware(app, pool="apps", inject=inject, login_required=True)
    return Guard(AllowedHostsOriginValidator(AuthMiddlewareStack(limited)), inject=inject)


_routes: list[Any] = [
    *(path(f"ws/{name}/", _wrapped(app, inject=True)) for name, app in APPS.items()),
    *(path(f"plain/{name}/", _wrapped(app, inject=False)) for name, app in APPS.items()),
    re_path(r"", project),  # type: ignore[arg-type]  # Channels routes applications as Django does views
]
application = ProtocolTypeRouter({"http": project, "websocket": URLRouter(_routes)})
