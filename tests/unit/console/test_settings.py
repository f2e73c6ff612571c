"""What console.settings makes of DATABASE_URL."""

import pytest

from console.settings import database


def test_options_of_the_address_are_added_to_the_timeouts() -> None:
    options = database("postgres://name@host/base?options=-c%20search_path%3Dx")["OPTIONS"]["options"]
    assert "-c lock_timeout=4000" in options
    assert options.endswith("-c search_path=x")


def test_a_timeout_of_the_address_wins() -> None:
    options = database("postgres://name@host/base?options=-c%20lock_timeout%3D9")["OPTIONS"]["options"]
    # PostgreSQL takes the last of two values.
    assert options.index("lock_timeout=9") > options.index("lock_timeout=4000")


def test_pages_too_connect_to_a_server_that_takes_writes() -> None:
    assert database("postgres://name@host/base")["OPTIONS"]["target_session_attrs"] == "read-write"
    chosen = database("postgres://name@host/base?target_session_attrs=any")
    assert chosen["OPTIONS"]["target_session_attrs"] == "any"


@pytest.mark.parametrize(
    ("hosts", "host", "port"),
    [
        ("one:5432,two:5433", "one,two", "5432,5433"),
        ("one,two:5433", "one,two", "5432,5433"),
        ("one,two", "one,two", ""),
        ("one:5433", "one", 5433),
    ],
)
def test_an_address_may_have_several_hosts(hosts: str, host: str, port: object) -> None:
    read = database(f"postgres://name:secret@{hosts}/base")
    assert (read["HOST"], read["PORT"]) == (host, port)
    assert (read["USER"], read["PASSWORD"], read["NAME"]) == ("name", "secret", "base")


def test_postgis_and_spatialite_have_the_same_options() -> None:
    assert database("postgis://name@host/base")["OPTIONS"] == database("postgres://name@host/base")["OPTIONS"]
    assert database("spatialite:///base.sqlite3")["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
