"""The project's settings with the application of `tests.support.hanging_app`, for servers that tests start."""

from tests.support.settings import *  # noqa: F403

ASGI_APPLICATION = "tests.support.hanging_app.application"
DATABASE_ROUTERS = ["tests.support.hangs.Router"]
