"""Ring other nodes, and wake this one when it is rung. `ring` and `logged_out` may be called from any thread."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from connections.bus import SESSIONS, WORK, Bus
from connections.node.parts import NodeParts

LOGGED_OUT_SECONDS = 0.3  # Django signals a log-out before it deletes the session


class Doorbell:
    """`wake` starts this node's rounds; `check_sessions(user_id)` compares a user's sockets with their sessions."""

    def __init__(
        self, parts: NodeParts, bus: Bus, *, wake: Callable[[], None], check_sessions: Callable[[str], None]
    ) -> None:
        self._parts = parts
        self._bus = bus
        self._wake = wake
        self._check_sessions = check_sessions
        bus.subscribe(WORK, lambda _: wake())
        bus.subscribe(SESSIONS, self._sessions_changed)

    def ring(self, node_ids: set[UUID] | None = None) -> None:
        """Ring these nodes, or all: there is something in their rows."""
        own = self._parts.identity.id
        if node_ids is None or own in node_ids:
            self._wake()
        others: list[UUID | None] = [None] if node_ids is None else [n for n in node_ids if n != own]
        for node_id in others:
            self._parts.call(self._bus.ring, node_id, WORK)

    def logged_out(self, user_id: Any) -> None:
        """Have every node, this one too, compare the user's sockets with their sessions."""
        self._parts.call(self._bus.ring, None, SESSIONS, {"user": str(user_id)})

    def _sessions_changed(self, data: dict[str, Any]) -> None:
        self._parts.loop.call_later(LOGGED_OUT_SECONDS, self._check_sessions, str(data.get("user")))
