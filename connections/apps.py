from django.apps import AppConfig
from django.core.checks import register


class ConnectionsConfig(AppConfig):
    name = "connections"
    verbose_name = "Connections"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from connections.checks import check_project, check_tunables

        register(check_project)
        register(check_tunables)
