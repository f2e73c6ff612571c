"""The project's settings, with the ASGI application of `benchmarks.apps`."""

from console.settings import *  # noqa: F403

ASGI_APPLICATION = "benchmarks.apps.application"
