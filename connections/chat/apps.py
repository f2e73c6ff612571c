from django.apps import AppConfig
from django.core import checks


class ChatConfig(AppConfig):
    name = "connections.chat"
    label = "chat"
    verbose_name = "Chat"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from connections.chat.checks import check_model
        from connections.node.current import begin_with

        checks.register(check_model)
        begin_with(_begin)


def _begin() -> None:
    """With the node, and not with its first user: what another node left behind is waited for."""
    from connections.chat.delivery.hub import hub
    from connections.chat.turns.runner import runner

    hub.start()
    runner.start()
