"""Rows that the database itself refuses to change."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from connections.models import ManagerRecord


@contextmanager
def unwritable(record: ManagerRecord) -> Iterator[None]:
    """A row that the database refuses to change the state of."""
    postgres = connection.vendor == "postgresql"
    table = "connections_managerrecord"
    key = str(record.pk) if postgres else record.pk.hex
    with connection.cursor() as cursor:
        if postgres:
            cursor.execute(
                "CREATE FUNCTION bad_row() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'bad row' USING ERRCODE = 'check_violation'; END $$"
            )
            body = "EXECUTE FUNCTION bad_row()"
        else:
            body = "BEGIN SELECT RAISE(ABORT, 'bad row'); END"
        each, when = ("FOR EACH ROW", f"(OLD.id = '{key}')") if postgres else ("", f"OLD.id = '{key}'")
        cursor.execute(f"CREATE TRIGGER bad_row BEFORE UPDATE OF state ON {table} {each} WHEN {when} {body}")
    try:
        yield
    finally:
        _drop(table, postgres=postgres)


def _drop(table: str, *, postgres: bool) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER bad_row ON {table}" if postgres else "DROP TRIGGER bad_row")
        if postgres:
            cursor.execute("DROP FUNCTION bad_row")
