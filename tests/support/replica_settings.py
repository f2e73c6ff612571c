"""The site with a replica from which its router has everything read. DATABASE_URL is the primary, a SQLite file; the
replica is the file with `.replica` after its name. Nothing replicates it: its lag is without bound.
"""

import os

from console.settings import *  # noqa: F403
from console.settings import database

URL = os.environ["DATABASE_URL"]
DATABASES = {
    "default": database(URL),
    "replica": database(f"{URL}.replica"),
}
DATABASE_ROUTERS = ["tests.support.routers.SilentReplicaRouter"]
