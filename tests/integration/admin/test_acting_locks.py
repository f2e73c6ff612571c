"""An action of the admin on records that another transaction has locked, on a page's connection to PostgreSQL."""

from pytest_django import DjangoDbBlocker

from connections.admin.acting import close_each
from connections.policy.actor import Actor
from tests.support.databases import Database
from tests.support.default_database import default_database
from tests.support.locks import held
from tests.support.rows import make_node, make_records, make_user


def test_a_lock_is_no_outage_and_each_record_is_counted_as_failed(
    postgres_database: Database, django_db_blocker: DjangoDbBlocker
) -> None:
    url = f"{postgres_database.url}&options=-c%20lock_timeout%3D100"
    with django_db_blocker.unblock(), default_database(url):
        records = make_records(2, make_user("ada"), make_node())
        with held(postgres_database, "LOCK TABLE connections_managerrecord IN SHARE MODE"):
            said = close_each(records, Actor.command("support"), "cannot connect")
        assert said == "0 managers asked to close, 2 failed."
