"""The site with the engine's tables in the alias `engine`, at DATABASE_URL, a SQLite file. Sessions are in the default
alias, the file with `.default` after its name.
"""

import os

from console.settings import *  # noqa: F403
from console.settings import database

URL = os.environ["DATABASE_URL"]
DATABASES = {
    "default": database(f"{URL}.default"),
    "engine": database(URL),
}
DATABASE_ROUTERS = ["tests.support.routers.ElsewhereRouter"]
