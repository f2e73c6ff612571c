"""Context managers in which a trigger of the database refuses to write some rows."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from django.db import connection
from django.db.models import Model

from connections.models import AuditEntry, ManagerRecord, RecoveryRun


def unwritable(record: ManagerRecord, columns: str = "state") -> AbstractContextManager[None]:
    """The database refuses an update of these columns of the record's row, or with "" of any column."""
    key = str(record.pk) if connection.vendor == "postgresql" else record.pk.hex
    return refused(ManagerRecord, f"UPDATE OF {columns}" if columns else "UPDATE", f"OLD.id = '{key}'")


def no_run_for(user: Model) -> AbstractContextManager[None]:
    """The database refuses a new recovery run for the user."""
    return refused(RecoveryRun, "INSERT", f"NEW.user_id = {user.pk}")


def no_entry_of_success() -> AbstractContextManager[None]:
    """The database refuses every new audit entry except the entries of failed actions."""
    return refused(AuditEntry, "INSERT", "NEW.outcome NOT LIKE 'failed:%'")


@contextmanager
def refused(model: type[Model], event: str, when: str) -> Iterator[None]:
    """The database refuses `event` (INSERT, UPDATE) of the model's rows for which the SQL condition `when` holds."""
    postgres = connection.vendor == "postgresql"
    table = model._meta.db_table
    name = f"bad_row_{table}"
    with connection.cursor() as cursor:
        if postgres:
            cursor.execute(
                f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'bad row' USING ERRCODE = 'check_violation'; END $$"
            )
            body = f"EXECUTE FUNCTION {name}()"
        else:
            body = "BEGIN SELECT RAISE(ABORT, 'bad row'); END"
        each, condition = ("FOR EACH ROW", f"({when})") if postgres else ("", when)
        cursor.execute(f"CREATE TRIGGER {name} BEFORE {event} ON {table} {each} WHEN {condition} {body}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TRIGGER {name} ON {table}" if postgres else f"DROP TRIGGER {name}")
            if postgres:
                cursor.execute(f"DROP FUNCTION {name}")
