"""The system checks: what the engine needs of the settings of the project that it is installed in."""

import pytest
from django.core.checks import CheckMessage
from django.core.management import CommandError
from pytest_django import Settings

from connections.database.requirements import check_databases, faults_of
from connections.management.commands.serve import Command


def ids(messages: list[CheckMessage]) -> list[str | None]:
    return [message.id for message in messages]


def found(vendor: str, driver: str = "", **database: object) -> list[str | None]:
    return ids(faults_of("default", database, vendor=vendor, driver=driver))


def test_a_database_of_another_vendor_is_refused() -> None:
    assert found("mysql", "MySQLdb") == ["connections.E012"]
    assert found("oracle", "oracledb") == ["connections.E012"]
    assert found("postgresql", "psycopg") == []


def test_psycopg2_is_refused() -> None:
    assert found("postgresql", "psycopg2") == ["connections.E013"]


def test_a_database_without_autocommit_is_refused() -> None:
    assert found("postgresql", "psycopg", AUTOCOMMIT=False) == ["connections.E016"]
    assert found("postgresql", "psycopg", AUTOCOMMIT=True) == []


def test_sqlite_needs_immediate_transactions() -> None:
    assert found("sqlite") == ["connections.W001"]
    assert found("sqlite", OPTIONS={"transaction_mode": "IMMEDIATE"}) == []


def test_sqlite_should_keep_its_times_in_utc() -> None:
    options = {"transaction_mode": "IMMEDIATE"}
    assert found("sqlite", OPTIONS=options, TIME_ZONE="Europe/Vienna") == ["connections.W002"]
    assert found("sqlite", OPTIONS=options, TIME_ZONE="UTC") == []


def test_every_refusal_says_what_to_do() -> None:
    messages = [
        *faults_of("default", {"AUTOCOMMIT": False}, vendor="postgresql", driver="psycopg2"),
        *faults_of("default", {"TIME_ZONE": "Asia/Tokyo"}, vendor="sqlite", driver="sqlite3"),
        *faults_of("default", {}, vendor="mysql", driver="MySQLdb"),
    ]
    assert len(messages) == 5
    assert all(message.hint for message in messages)


def test_use_tz_is_required(settings: Settings) -> None:
    assert "connections.E011" not in ids(check_databases())
    settings.USE_TZ = False
    assert "connections.E011" in ids(check_databases())
    with pytest.raises(CommandError, match="USE_TZ must be on"):
        Command().refuse_unsuitable()


def test_serve_listens_on_all_interfaces_only_without_the_settings_of_a_fresh_checkout(settings: Settings) -> None:
    settings.LEFT_AT_DEFAULTS = ["SECRET_KEY"]
    with pytest.raises(CommandError, match="set SECRET_KEY in"):
        Command().refuse_unsafe("0.0.0.0")  # noqa: S104 - nobody listens
    Command().refuse_unsafe("127.0.0.1")
    del settings.LEFT_AT_DEFAULTS  # the settings of an adopter's project never have this name
    Command().refuse_unsafe("0.0.0.0")  # noqa: S104
