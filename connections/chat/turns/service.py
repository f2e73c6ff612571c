"""The chat of this process's node: its hub and its turn runner, built when the process becomes a node."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from connections.chat import agents
from connections.chat.delivery.hub import Hub
from connections.chat.turns.runner import TurnRunner

if TYPE_CHECKING:
    from connections.node.runtime import NodeRuntime


@dataclass(frozen=True, slots=True)
class ChatService:
    hub: Hub
    runner: TurnRunner


_service: ChatService | None = None


def start(node: "NodeRuntime") -> None:
    """Build and start the chat when the process becomes a node, so that abandoned turns are requeued without a user."""
    global _service  # noqa: PLW0603 - a process is one node
    hub = Hub(node.bus)
    _service = ChatService(hub, TurnRunner(hub, agents.configured()))
    hub.start()
    _service.runner.start()


def current_chat() -> ChatService:
    """The chat of this process's node. Raises RuntimeError in a process that is no node."""
    if _service is None:
        raise RuntimeError("This process is no node: SoftLimitMiddleware makes it one at its first WebSocket.")
    return _service
