"""Which of a project's databases is ours: the one that its routers give for writing, for every read and write of ours.

A replica lags behind, and no decision about a socket may be taken by rows of a moment ago.
"""

from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import models, router
from django.utils.module_loading import import_string


def alias() -> str:
    """The alias, in the project's DATABASES, of the database that holds our tables."""
    return router.db_for_write(apps.get_model("connections", "ManagerRecord"))


def users() -> "models.QuerySet[Any]":
    """The project's users, as the database that holds our tables has them."""
    return get_user_model()._default_manager.using(alias())


def session_model() -> type[models.Model] | None:
    """The model of the project's sessions; None if no database keeps them."""
    if not apps.is_installed("django.contrib.sessions"):
        return None
    store = import_string(f"{settings.SESSION_ENGINE}.SessionStore")
    get_model = getattr(store, "get_model_class", None)
    return None if get_model is None else get_model()


def sessions_alias() -> str | None:
    """The alias of the database that keeps the project's sessions; None if none does."""
    model = session_model()
    return None if model is None else router.db_for_write(model)
