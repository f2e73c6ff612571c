"""Check that a project's databases fit the engine. `check` and `serve` refuse one that would void a guarantee, and warn
about one that would only be slower. Each message says what to do.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as Caution
from django.db import OperationalError, connections, router
from django.db.utils import load_backend

from connections.database.postgres import refuses_options
from connections.models.routing import alias

VENDORS = ("postgresql", "sqlite")
TIMEOUTS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")


def faults_of(name: str, database: Mapping[str, Any], *, vendor: str, driver: str) -> list[CheckMessage]:
    """Return a message for each fault of the database that holds our tables. `database` is its entry in DATABASES,
    `driver` the name of the module that talks to it. Pure, so that tests can ask it anything.
    """
    found: list[CheckMessage] = []
    if vendor not in VENDORS:
        sentence = f"The database {name!r} is {vendor}; the engine's locks hold on PostgreSQL and SQLite only."
        hint = "Route the apps of connections and the users to a PostgreSQL or SQLite database."
        found.append(Error(sentence, hint=hint, id="connections.E012"))
    if vendor == "postgresql" and driver.startswith("psycopg2"):
        sentence = f"The database {name!r} is reached through psycopg2, which the engine can't use."
        found.append(Error(sentence, hint="Install psycopg 3: the package psycopg[binary].", id="connections.E013"))
    if database.get("AUTOCOMMIT") is False:
        sentence = f"AUTOCOMMIT of the database {name!r} is off: what commands and pages order would not be committed."
        found.append(Error(sentence, hint='Leave "AUTOCOMMIT" out.', id="connections.E016"))
    if vendor == "sqlite":
        found += _of_sqlite(name, database)
    return found


def _of_sqlite(name: str, database: Mapping[str, Any]) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    mode = database.get("OPTIONS", {}).get("transaction_mode")
    if str(mode).upper() != "IMMEDIATE":
        hint = f'Set "OPTIONS": {{"transaction_mode": "IMMEDIATE"}} of the database {name!r}.'
        sentence = "On SQLite, console and commands fail while a node writes."
        found.append(Caution(sentence, hint=hint, id="connections.W001"))
    if database.get("TIME_ZONE") not in (None, "UTC"):
        sentence = f"SQLite keeps times without their zone: in {database['TIME_ZONE']} an hour may come twice a year."
        found.append(Caution(sentence, hint=f'Leave "TIME_ZONE" of {name!r} out.', id="connections.W002"))
    return found


def check_databases(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """A system check, which connects to no database."""
    name, found = alias(), list[CheckMessage]()
    if not settings.USE_TZ:
        sentence = "USE_TZ must be on: times are compared with the database's clock."
        found.append(Error(sentence, hint="Set USE_TZ = True.", id="connections.E011"))
    connection: Any = connections[name]
    driver = getattr(connection.Database, "__name__", "")
    found += faults_of(name, connection.settings_dict, vendor=connection.vendor, driver=driver)
    users = router.db_for_write(get_user_model())
    if users != name:
        sentence = (
            f"The users are in the database {users!r}, and the engine's tables in {name!r}: one transaction reads both."
        )
        hint = "Have DATABASE_ROUTERS give one database for writing for both."
        found.append(Error(sentence, hint=hint, id="connections.E014"))
    elsewhere = sorted({router.db_for_write(model) for model in _our_models()} - {name})
    if elsewhere:
        sentence = f"The engine's tables are in more than one database: {name!r} and {', '.join(map(repr, elsewhere))}."
        hint = "Have DATABASE_ROUTERS give one database for writing for all apps of connections."
        found.append(Error(sentence, hint=hint, id="connections.E015"))
    return found


def _our_models() -> list[Any]:
    ours = [config for config in apps.get_app_configs() if config.name.partition(".")[0] == "connections"]
    return [model for config in ours for model in config.get_models()]


def check_timeouts(
    app_configs: Sequence[AppConfig] | None = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """A system check of the kind that connects: `check --database ALIAS` and `serve`."""
    name = alias()
    connection = connections[name]
    if name not in (databases or ()) or connection.vendor != "postgresql":
        return []
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_settings WHERE setting = '0' AND name = ANY(%s)", [list(TIMEOUTS)])
        unset = {row[0] for row in cursor.fetchall()}
    if not unset:
        return []
    asked = str(connection.settings_dict["OPTIONS"].get("options", ""))
    dropped = [timeout for timeout in TIMEOUTS if timeout in unset and timeout in asked]
    missing = ", ".join(timeout for timeout in TIMEOUTS if timeout in unset)
    if dropped:
        sentence = f"A pooler drops the timeouts of the database {name!r}: pages wait without bound ({missing})."
        hint = (
            "Set them in the server (ALTER ROLE … SET lock_timeout = '4s'), or in the pooler (connect_query of "
            "PgBouncer). The engine's own threads set theirs in each transaction."
        )
    else:
        sentence = f"The database {name!r} has no {missing}: a page that finds a lock waits without bound."
        hint = 'Add to its OPTIONS: "options": "-c lock_timeout=4000 -c statement_timeout=15000 '
        hint += '-c idle_in_transaction_session_timeout=5000".'
    return [Caution(sentence, hint=hint, id="connections.W003")]


def why_no_connection(error: Exception) -> str:
    """Why the database could not be reached. A pool says only that it waited, so connect once without it."""
    settings_dict = copy.deepcopy(connections[alias()].settings_dict)
    if settings_dict["OPTIONS"].pop("pool", None):
        connection = load_backend(settings_dict["ENGINE"]).DatabaseWrapper(settings_dict, alias())
        try:
            connection.ensure_connection()
        except OperationalError as cause:
            error = cause
        finally:
            connection.close()
    said = str(error).strip()
    if refuses_options(said):
        said += " Have the pooler let it pass or leave it out: PgBouncer's ignore_startup_parameters = options."
    return said
