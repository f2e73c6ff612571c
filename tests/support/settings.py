"""The project's settings with `tests.support.apps` behind the sockets, for servers under test."""

from console.settings import *  # noqa: F403

ASGI_APPLICATION = "tests.support.apps.application"
