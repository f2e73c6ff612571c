"""The site with databases or settings that `check` and `serve` refuse: the environment's ROUTER, ENGINE and USE_TZ."""

import os

from console.settings import *  # noqa: F403
from console.settings import database

ours = database(os.environ["DATABASE_URL"])
ours["ENGINE"] = os.environ.get("ENGINE", ours["ENGINE"])
DATABASES = {"default": ours, "engine": dict(ours)}
DATABASE_ROUTERS = [os.environ["ROUTER"]] if "ROUTER" in os.environ else []
USE_TZ = os.environ.get("USE_TZ", "on") == "on"
