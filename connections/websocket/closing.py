"""Close or refuse a socket so that its page understands: accept, `closing`, close; never a bare 403."""

import random
from collections.abc import Sequence

from connections.policy.states import FAREWELLS
from connections.websocket import frames
from connections.websocket.asgi_types import Message, Receive, Send

GOODBYE_SECONDS = 2.0  # for the last frames, and again for the close handshake; then the transport is aborted


def draw_retry_after(reason: str) -> float:
    """Draw the seconds after which a client reconnects, for each client anew, so that many do not return at once."""
    return random.uniform(*FAREWELLS[reason].delay)


async def send_closing(
    send: Send,
    reason: str,
    *,
    inject: bool,
    accept: bool,
    subprotocols: Sequence[str] = (),
    retry_after: float | None = None,
) -> None:
    """Send the frames that close a socket for `reason`. `accept`: accept it first, since it has not been accepted."""
    if accept:
        opening: Message = {"type": "websocket.accept"}
        if subprotocols:
            opening["subprotocol"] = subprotocols[0]
        await send(opening)
    if inject:
        wait = draw_retry_after(reason) if retry_after is None else retry_after
        await send({"type": "websocket.send", "text": frames.closing(reason, wait)})
    await send({"type": "websocket.close", "code": FAREWELLS[reason].code})


async def until_disconnect(receive: Receive) -> None:
    """Read until the server reports the end of the socket."""
    while (await receive())["type"] != "websocket.disconnect":
        pass
