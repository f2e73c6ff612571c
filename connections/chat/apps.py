from django.apps import AppConfig
from django.core import checks


class ChatConfig(AppConfig):
    name = "connections.chat"
    label = "chat"
    verbose_name = "Chat"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from connections.chat.checks import check_model
        from connections.chat.turns import service
        from connections.node.current import on_node_start

        checks.register(check_model)
        on_node_start(service.start)
