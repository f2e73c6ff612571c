"""Which of a project's databases is ours: the one that its routers give for writing, for every read and write of ours.

A replica lags behind, and no decision about a socket may be taken by rows of a moment ago.
"""

from django.apps import apps
from django.db import router


def alias() -> str:
    """The alias, in the project's DATABASES, of the database that holds our tables."""
    return router.db_for_write(apps.get_model("connections", "ManagerRecord"))
