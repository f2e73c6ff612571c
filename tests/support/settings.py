"""The project's settings with `tests.support.misbehaving_apps` behind the sockets, for servers under test.

SESSION_ENGINE chooses who keeps the sessions; CACHE_FOLDER is where a cache is, that several processes can look into.
"""

import os

from console.settings import *  # noqa: F403

ASGI_APPLICATION = "tests.support.misbehaving_apps.application"

CHANNEL_LAYERS = CHANNEL_LAYERS | {"breaking": {"BACKEND": "tests.support.misbehaving_apps.BreakingLayer"}}  # noqa: F405

SESSION_ENGINE = os.environ.get("SESSION_ENGINE", "django.contrib.sessions.backends.db")
if "CACHE_FOLDER" in os.environ:
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
            "LOCATION": os.environ["CACHE_FOLDER"],
        }
    }
