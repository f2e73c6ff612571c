"""Django system checks of the chat's settings."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error


def check_model(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    if not getattr(settings, "CHAT_MODEL", "") or find_spec("openai") is not None:
        return []
    return [
        Error(
            "CHAT_MODEL is set, and the library that talks to models is not installed.",
            hint="Install the extra: the package openai.",
            id="chat.E001",
        )
    ]
