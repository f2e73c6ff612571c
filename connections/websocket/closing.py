"""Close or refuse a socket so that its page learns the reason: accept, send `closing`, close; never a bare 403."""

import random
from collections.abc import Callable, Sequence

from connections.policy.states import closing_frame
from connections.websocket import frames
from connections.websocket.asgi_types import Message, Receive, Send
from connections.websocket.outbound import Outbound

CLOSE_SECONDS = 2.0  # to send the last frames, and again for the close handshake; then the transport is aborted


def draw_retry_after(reason: str) -> float:
    """Draw the seconds after which one client reconnects. Each call draws anew, so that many do not return at once."""
    return random.uniform(*closing_frame(reason).delay)


async def send_closing(
    send: Send,
    reason: str,
    *,
    inject: bool,
    accept: bool,
    subprotocols: Sequence[str] = (),
    retry_after: float | None = None,
) -> None:
    """Send what closes a socket for `reason`. `accept`: the socket is not accepted yet, so accept it first. `inject`:
    send the `closing` frame.
    """
    if accept:
        opening: Message = {"type": "websocket.accept"}
        if subprotocols:
            opening["subprotocol"] = subprotocols[0]
        await send(opening)
    if inject:
        wait = draw_retry_after(reason) if retry_after is None else retry_after
        await send({"type": "websocket.send", "text": frames.closing(reason, wait)})
    await send({"type": "websocket.close", "code": closing_frame(reason).code})


async def close_or_abort(
    outbound: Outbound,
    reason: str,
    *,
    inject: bool,
    accept: bool,
    subprotocols: Sequence[str],
    retry_after: float | None,
) -> None:
    """Do as `send_closing`, but abort the connection if the client does not take that in time."""
    sending = send_closing(
        outbound.forward, reason, inject=inject, accept=accept, subprotocols=subprotocols, retry_after=retry_after
    )
    if not await outbound.send_within(sending, CLOSE_SECONDS):
        outbound.abort()


async def until_disconnect(receive: Receive, on_message: Callable[[Message], object] | None = None) -> Message:
    """Read until the server reports the end of the socket, and return that report; pass on all messages before it."""
    while (message := await receive())["type"] != "websocket.disconnect":
        if on_message is not None:
            on_message(message)
    return message
