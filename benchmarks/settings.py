"""The project's settings with `benchmarks.apps` behind the sockets."""

from console.settings import *  # noqa: F403

ASGI_APPLICATION = "benchmarks.apps.application"
