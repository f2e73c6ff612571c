from django.apps import AppConfig
from django.core import checks


class ChatConfig(AppConfig):
    name = "connections.chat"
    label = "chat"
    verbose_name = "Chat"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from connections.chat.checks import check_model

        checks.register(check_model)
