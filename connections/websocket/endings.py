"""What the end of a socket that nobody ordered is recorded as: its reason and its evidence. Pure."""

from connections.policy.states import CloseReason
from connections.websocket.asgi_types import Message

NO_CODE = 1005  # RFC 6455: the close frame had no code
ABNORMAL_CLOSURE = 1006  # the connection ended without a close frame


def abnormal() -> Message:
    """A disconnect, as servers report it, of a connection that ended without a close."""
    return {"type": "websocket.disconnect", "code": ABNORMAL_CLOSURE}


def close_of_application(message: Message, *, accepted: bool) -> str:
    """The evidence of a socket that its application closes, or refuses with an HTTP response, with `message`."""
    if message["type"] != "websocket.close":
        return "the application refused it with a response of its own"
    if not accepted:
        return "the application closed it before accepting"
    code = message.get("code")
    return f"the application closed it with {1000 if code is None else code}"


def end_of_transport(disconnect: Message, *, by_server: bool) -> tuple[CloseReason, str]:
    """The server has reported the end of the connection. `by_server`: because the server stops."""
    code = disconnect.get("code") or NO_CODE
    if by_server:
        return CloseReason.NODE_DRAINING, f"the server stopped, and closed it with {code}"
    if code in (1000, 1001, NO_CODE):
        return CloseReason.CLIENT_CLOSED, f"the client closed it with {code}"
    without = ", without a close" if code == ABNORMAL_CLOSURE else ""
    return CloseReason.CLIENT_GONE, f"the connection ended with {code}{without}"


def end_by_cancellation(*, leaving: bool) -> tuple[CloseReason, str]:
    """The server has cancelled the task of the whole socket. `leaving`: while the server or the node stops."""
    if leaving:
        return CloseReason.NODE_DRAINING, "the server stopped, and cancelled it"
    return CloseReason.HANDLER_FAILED, "the server cancelled it"
