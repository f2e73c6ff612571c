"""ASGI applications that misbehave, each wrapped in the real middleware as an adopter wraps their own application.

Each is served twice: at `/ws/<name>/`, where the middleware may send frames of its own (`inject=True`), and at
`/plain/<name>/`, where it may not. All other paths are the project's. Every application except `silent` and
`raise-in-connect` accepts the socket, sends `ready` with the manager's id, and misbehaves, as its name says, when the
client's first frame comes.
"""

import asyncio
import contextlib
import gc
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import InMemoryChannelLayer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.urls import path, re_path

from connections.admission import Guard, SoftLimitMiddleware
from connections.node.current import current_node
from connections.websocket.app_task import AppTask
from connections.websocket.manager import Manager
from console.asgi import application as project

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

SLOW_SECONDS = 0.2  # how long `slow` takes for a frame
SWALLOW_SECONDS = 30.0  # how long `swallow` ignores its cancellation


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


async def raises_in_connect(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await receive()
    raise ValueError("a handler that raises before it accepts")


async def raises_in_disconnect(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _ready(scope, receive, send)
    while (await receive())["type"] != "websocket.disconnect":
        pass
    raise ValueError("a handler that raises when it gets the disconnect")


async def cancelled(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _ready(scope, receive, send)
    await receive()
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.Event().wait()


class BreakingLayer(InMemoryChannelLayer):
    """A channel layer whose connection breaks while a consumer waits for a message."""

    async def receive(self, channel: str) -> dict[str, Any]:
        await super().receive(channel)
        raise ConnectionError("the channel layer has gone away")


class Layered(AsyncWebsocketConsumer):
    """A Channels consumer that listens to its channel layer, as most consumers do."""

    channel_layer_alias = "breaking"

    async def connect(self) -> None:
        scope: dict[str, Any] = dict(self.scope)
        await self.accept()
        await self.send(text_data=json.dumps({"type": "ready", "manager": str(scope["manager"].id)}))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.channel_layer.send(self.channel_name, {"type": "anything"})


async def census(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer each frame with the number of objects that the process holds for its sockets after a full collection."""
    await _ready(scope, receive, send)
    while (await receive())["type"] == "websocket.receive":
        node = current_node()
        assert node is not None
        gc.unfreeze()
        gc.collect()
        kinds = [type(thing) for thing in gc.get_objects()]
        await _say(
            send,
            type="census",
            managers=kinds.count(Manager),
            handlers=kinds.count(AppTask),
            registered=len(node.registry),
            tasks=len(asyncio.all_tasks()),
        )


async def returns(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _ready(scope, receive, send)
    await receive()


async def stuck(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _ready(scope, receive, send)
    await receive()
    await asyncio.Event().wait()


async def gives_up(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Cancel a receive before any frame has come, and take none afterwards."""
    await _ready(scope, receive, send)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(receive(), 0.01)
    await asyncio.Event().wait()


async def never_receives(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})
    await _say(send, type="ready", manager=str(scope["manager"].id))
    await asyncio.Event().wait()


async def polls(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Give up each receive after a moment, and take the frames that come all the same, one in each round."""
    await _ready(scope, receive, send)
    while True:
        try:
            event = await asyncio.wait_for(receive(), 0.05)
        except TimeoutError:
            await asyncio.sleep(0.05)
            continue
        if event["type"] == "websocket.disconnect":
            return
        await _say(send, type="echo", text=event["text"])


async def blocks(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """From the first frame on, block the whole event loop for 0.3 s of each 0.5 s."""
    await _ready(scope, receive, send)
    await receive()
    while True:
        time.sleep(0.3)  # noqa: ASYNC251 - what no application should do
        await asyncio.sleep(0.2)


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


APPS: dict[str, Any] = {
    "echo": echo,
    "slow": slow,
    "raise": raises,
    "raise-in-connect": raises_in_connect,
    "raise-in-disconnect": raises_in_disconnect,
    "cancelled": cancelled,
    "layer": Layered.as_asgi(),
    "census": census,
    "return": returns,
    "stuck": stuck,
    "gives-up": gives_up,
    "never-receives": never_receives,
    "polls": polls,
    "blocks": blocks,
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
