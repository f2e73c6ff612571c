"""The frames that the engine itself sends, and the one that it reads: `pong`. Pure."""

import json
from typing import Any

from connections.policy.states import Reconnect, closing_frame


def ping(nonce: str) -> str:
    return json.dumps({"type": "ping", "nonce": nonce})


def pong_nonce(text: str | None) -> str | None:
    """The nonce of a `pong` frame, or None for any other frame. Never raises."""
    if text is None or len(text) > 200 or '"pong"' not in text:
        return None
    try:
        frame: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(frame, dict) or frame.get("type") != "pong":
        return None
    nonce = frame.get("nonce")
    return nonce if isinstance(nonce, str) else None


def closing(reason: str, retry_after: float) -> str:
    """The frame sent before a close, since browsers and Daphne drop a close's reason. `retry_after` is in seconds."""
    sent = closing_frame(reason)
    wait = round(retry_after, 3) if sent.reconnect is Reconnect.AFTER else 0
    return json.dumps(
        {
            "type": "closing",
            "code": sent.code,
            "reason": sent.wire_reason or reason,
            "reconnect": sent.reconnect.value,
            "retry_after": wait,
        }
    )


def notice(kind: str, live: int, soft_limit: int) -> str:
    return json.dumps({"type": "notice", "kind": kind, "live": live, "soft_limit": soft_limit})
