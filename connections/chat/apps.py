from typing import TYPE_CHECKING

from django.apps import AppConfig
from django.core import checks

if TYPE_CHECKING:
    from connections.node.runtime import NodeRuntime


class ChatConfig(AppConfig):
    name = "connections.chat"
    label = "chat"
    verbose_name = "Chat"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from connections.chat.checks import check_model
        from connections.node.current import on_node_start

        checks.register(check_model)
        on_node_start(_begin)


def _begin(node: "NodeRuntime") -> None:
    """With the node, and not with its first user: what another node left behind is waited for."""
    from connections.chat.delivery.hub import hub
    from connections.chat.turns.runner import runner

    hub.start()
    runner.start()
