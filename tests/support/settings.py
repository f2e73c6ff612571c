"""The project's settings with the applications of `tests.support.misbehaving_apps`, for servers that tests start.

The environment variable SESSION_ENGINE chooses Django's session engine. CACHE_FOLDER is the folder of a file-based
cache, which several processes can share; CACHE_BACKEND is its class, if not Django's.
"""

import os

from console.settings import *  # noqa: F403

ASGI_APPLICATION = "tests.support.misbehaving_apps.application"

CHANNEL_LAYERS = CHANNEL_LAYERS | {  # noqa: F405
    "breaking": {"BACKEND": "tests.support.misbehaving_apps.BreakingLayer"},
}

SESSION_ENGINE = os.environ.get("SESSION_ENGINE", "django.contrib.sessions.backends.db")
if "CACHE_FOLDER" in os.environ:
    CACHES = {
        "default": {
            "BACKEND": os.environ.get("CACHE_BACKEND", "django.core.cache.backends.filebased.FileBasedCache"),
            "LOCATION": os.environ["CACHE_FOLDER"],
        }
    }
