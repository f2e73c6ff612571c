from typing import Any

from django.apps import AppConfig
from django.core.checks import register


class ConnectionsConfig(AppConfig):
    name = "connections"
    verbose_name = "Connections"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.contrib.auth.signals import user_logged_out

        from connections.checks import check_project, check_tunables

        register(check_project)
        register(check_tunables)
        user_logged_out.connect(_logged_out, dispatch_uid="connections.logged_out")


def _logged_out(user: Any, **_: Any) -> None:
    """Whoever logs out is out at once, on every node that hears of it."""
    from connections.bus import logged_out

    if user is not None:
        logged_out(user.pk)
