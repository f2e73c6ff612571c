"""The system checks: what the engine needs of the settings of the project that it is installed in."""

import pytest
from django.core.management import CommandError
from pytest_django import Settings

from connections.checks import missing
from connections.management.commands.serve import Command

SQLITE = "django.db.backends.sqlite3"


def found(*, use_tz: bool = True, **database: object) -> list[str | None]:
    return [message.id for message in missing(use_tz=use_tz, database=database)]


def test_use_tz_is_required() -> None:
    assert found(use_tz=False, ENGINE="django.db.backends.postgresql") == ["connections.E011"]


def test_sqlite_needs_immediate_transactions() -> None:
    assert found(ENGINE=SQLITE) == ["connections.W001"]
    assert found(ENGINE=SQLITE, OPTIONS={"transaction_mode": "IMMEDIATE"}) == []


def test_serve_listens_on_all_interfaces_only_without_the_settings_of_a_fresh_checkout(settings: Settings) -> None:
    settings.LEFT_AT_DEFAULTS = ["SECRET_KEY"]
    with pytest.raises(CommandError, match="set SECRET_KEY in"):
        Command().refuse_unsafe("0.0.0.0")  # noqa: S104 - nobody listens
    Command().refuse_unsafe("127.0.0.1")
    del settings.LEFT_AT_DEFAULTS  # the settings of an adopter's project never have this name
    Command().refuse_unsafe("0.0.0.0")  # noqa: S104
