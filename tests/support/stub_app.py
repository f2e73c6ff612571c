"""A stub ASGI application that speaks the project's WebSocket frames. The tests of the test helpers (clients, servers)
run against it, so that they do not depend on the code that the helpers are there to test.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer HTTP with 200. Send each socket `ready` and a `ping`, and each frame of the client back as `echo`.

    A client's frame of type `close_me` is answered with `closing` and close code 4410. A frame of type `flood` is
    answered with 200 large frames, so that the send blocks if the client does not read.
    """
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"ok"})
    elif scope["type"] == "websocket":
        await _socket(scope, receive, send)


async def _socket(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    async def say(**frame: object) -> None:
        await send({"type": "websocket.send", "text": json.dumps(frame)})

    await receive()
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    await send({"type": "websocket.accept"})
    await say(type="ready", query=scope["query_string"].decode(), headers=headers)
    await say(type="ping", nonce="n1")
    while (event := await receive())["type"] == "websocket.receive":
        frame = json.loads(event["text"])
        if frame["type"] == "close_me":
            await say(type="closing", code=4410, reason="closed_by_staff")
            await send({"type": "websocket.close", "code": 4410})
            return
        await say(type="echo", frame=frame)
        if frame["type"] == "flood":
            for _ in range(200):
                await say(type="padding", text="x" * 50_000)
                await asyncio.sleep(0)
