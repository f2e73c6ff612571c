"""The adopter's consumers, which do not import the engine."""

import json
from typing import Any

from asgiref.sync import async_to_sync
from channels.exceptions import DenyConnection
from channels.generic.websocket import AsyncJsonWebsocketConsumer, AsyncWebsocketConsumer, WebsocketConsumer

ROOM = "room"


class Echo(AsyncWebsocketConsumer):
    """Sends text back as text and bytes as bytes."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data is not None:
            await self.send(text_data=text_data)
        else:
            await self.send(bytes_data=bytes_data)


class Room(AsyncJsonWebsocketConsumer):
    """Sends each JSON frame to all clients in the room, through a group of the channel layer."""

    async def connect(self) -> None:
        await self.channel_layer.group_add(ROOM, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(ROOM, self.channel_name)
        await self.channel_layer.group_send(ROOM, {"type": "said", "content": {"left": code}})

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.channel_layer.group_send(ROOM, {"type": "said", "content": content})

    async def said(self, event: dict[str, Any]) -> None:
        await self.send_json(event["content"])


class Sync(WebsocketConsumer):
    """A synchronous consumer with a room in `groups`, which reads its user from the database."""

    groups = ["sync"]

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        user: Any = self.scope["user"]
        user.refresh_from_db()
        content = f"{user.get_username()}: {text_data}"
        async_to_sync(self.channel_layer.group_send)("sync", {"type": "said", "content": content})

    def said(self, event: dict[str, Any]) -> None:
        self.send(event["content"])


class Versioned(AsyncWebsocketConsumer):
    """Chooses a subprotocol and sends a header; closes with the code and the reason that the client sends."""

    async def connect(self) -> None:
        headers: Any = [(b"x-room", b"7")]
        await self.accept("v2", headers=headers)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        code, _, reason = (text_data or "").partition(" ")
        await self.close(int(code), reason)


class Declines(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.close()


class Denies(WebsocketConsumer):
    def connect(self) -> None:
        raise DenyConnection


class Raises(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        raise ValueError("a bug of theirs")


class RaisesAtOnce(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        raise ValueError("a bug of theirs")


async def closes(scope: Any, receive: Any, send: Any) -> None:
    """A plain ASGI application that closes with the code that the client sends: a number, `null`, or empty for none."""
    await receive()
    await send({"type": "websocket.accept"})
    said = (await receive())["text"]
    await send({"type": "websocket.close"} | ({"code": json.loads(said)} if said else {}))
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def answers_http(scope: Any, receive: Any, send: Any) -> None:
    """A plain ASGI application that refuses the handshake with an HTTP response of its own."""
    await receive()
    headers = [(b"content-type", b"text/plain"), (b"x-why", b"moved")]
    await send({"type": "websocket.http.response.start", "status": 410, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"moved away"})


KINDS: dict[str, Any] = {
    "echo": Echo.as_asgi(),
    "room": Room.as_asgi(),
    "sync": Sync.as_asgi(),
    "versioned": Versioned.as_asgi(),
    "declines": Declines.as_asgi(),
    "denies": Denies.as_asgi(),
    "closes": closes,
    "raises": Raises.as_asgi(),
    "raises-at-once": RaisesAtOnce.as_asgi(),
    "answers-http": answers_http,
}
