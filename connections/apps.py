"""The Django app: its checks, its gauges, and what it does at a log-out and with a new connection."""

from typing import Any

from django.apps import AppConfig
from django.core.checks import Tags, register


class ConnectionsConfig(AppConfig):
    name = "connections"
    verbose_name = "Connections"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.contrib.auth.signals import user_logged_out
        from django.db.backends.signals import connection_created

        from connections.checks import check_tunables
        from connections.database import leave_standby
        from connections.database.requirements import check_databases, check_timeouts
        from connections.views import register_gauges

        register(check_databases)
        register(check_timeouts, Tags.database)
        register(check_tunables)
        register_gauges()
        connection_created.connect(leave_standby, dispatch_uid="connections.leave_standby")
        user_logged_out.connect(_logged_out, dispatch_uid="connections.logged_out")


def _logged_out(user: Any, **_: Any) -> None:
    """Have every node close the sockets of the session that just ended."""
    from connections.bus import logged_out

    if user is not None:
        logged_out(user.pk)
