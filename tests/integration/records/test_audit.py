"""Every action is in the audit trail: in the transaction of its change, and also if it fails."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import DatabaseError

from connections.models import AuditEntry, ManagerRecord, Node, RecoveryRun, UserGate
from connections.policy.actor import Actor
from connections.policy.states import RecordState, RunKind
from connections.recovery import actions, runs
from tests.support.bad_rows import no_entry_of_success, no_run_for, refused, unwritable
from tests.support.rows import make_gate, make_node, make_record, make_run, make_user

pytestmark = pytest.mark.django_db(transaction=True)
STAFF = Actor.command("support")
Action = Callable[[ManagerRecord], object]


@pytest.fixture
def record() -> ManagerRecord:
    """The only manager, of the user ada, who also has a gate."""
    ada = make_user("ada")
    make_gate(ada)
    return make_record(ada, make_node())


def ada_of(record: ManagerRecord) -> User:
    assert record.user is not None
    return record.user


def recover(record: ManagerRecord, kind: RunKind, *, dry_run: bool = False, action: str = "") -> None:
    runs.request(record.user, kind, actor=STAFF, reason="why", dry_run=dry_run, action=action)


ACTIONS: dict[str, Action] = {
    "close_manager": lambda record: actions.close_manager(record, actor=STAFF, reason="why"),
    "close_own": lambda record: actions.close_own(record.user, None, actor=Actor.user(record.user)),
    "set_limit": lambda record: actions.set_limit(record.user, "chat", 5, reason="why", actor=STAFF),
    "drain_node": lambda record: actions.drain(record.node, actor=STAFF, reason="why"),
    "cleanup": lambda record: recover(record, RunKind.CLEANUP),
    "reset": lambda record: recover(record, RunKind.RESET),
    "dry_run": lambda record: recover(record, RunKind.CLEANUP, dry_run=True),
    "check": lambda record: recover(record, RunKind.CLEANUP, dry_run=True, action="check"),
}


def bad_row(record: ManagerRecord, action: str) -> AbstractContextManager[None]:
    """The database refuses to write the row that this action changes."""
    match action:
        case "close_manager" | "close_own":
            return unwritable(record)
        case "set_limit":
            return refused(UserGate, "UPDATE", f"OLD.user_id = {record.user_id}")
        case "drain_node":
            return refused(Node, "UPDATE OF drain_wanted_at", "1 = 1")
    return no_run_for(ada_of(record))


def nothing_was_done() -> bool:
    return not (
        ManagerRecord.objects.exclude(state=RecordState.LIVE).exists()
        or UserGate.objects.exclude(soft_limit=None).exists()
        or Node.objects.exclude(drain_wanted_at=None).exists()
        or RecoveryRun.objects.exists()
    )


@pytest.mark.parametrize("action", ACTIONS)
def test_a_failed_action_is_undone_and_has_an_audit_entry(action: str, record: ManagerRecord) -> None:
    with bad_row(record, action), pytest.raises(DatabaseError, match="bad row"):
        ACTIONS[action](record)
    assert nothing_was_done()
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.outcome, entry.run) == (action, "failed: bad row", None)
    assert entry.user == (None if action == "drain_node" else record.user)
    assert entry.reason == ("" if action == "close_own" else "why")


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_that_cannot_be_audited_is_not_done(action: str, record: ManagerRecord) -> None:
    with no_entry_of_success(), pytest.raises(DatabaseError, match="bad row"):
        ACTIONS[action](record)
    assert nothing_was_done()
    assert AuditEntry.objects.get().outcome == "failed: bad row"


@pytest.mark.parametrize("action", ACTIONS)
def test_a_successful_action_has_one_audit_entry(action: str, record: ManagerRecord) -> None:
    ACTIONS[action](record)
    assert not nothing_was_done()
    entry = AuditEntry.objects.get()
    assert entry.action == action
    assert entry.run == RecoveryRun.objects.first()
    assert not entry.outcome.startswith("failed")


def test_a_join_that_cannot_be_audited_is_not_done(record: ManagerRecord) -> None:
    run = make_run(ada_of(record))
    with no_entry_of_success(), pytest.raises(DatabaseError, match="bad row"):
        recover(record, RunKind.CLEANUP)
    assert RecoveryRun.objects.get() == run
    assert not run.audit_entries.exists()
    recover(record, RunKind.CLEANUP)
    assert run.audit_entries.get().outcome == "joined"


def test_an_invalid_action_is_audited_too(record: ManagerRecord) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        actions.set_limit(record.user, "chat", 0, reason="why", actor=STAFF)
    assert AuditEntry.objects.get().outcome == "failed: The soft limit must be at least 1."


def test_an_audit_entry_that_cannot_be_written_is_logged_and_hides_no_error(
    record: ManagerRecord, caplog: pytest.LogCaptureFixture
) -> None:
    nothing = refused(AuditEntry, "INSERT", "1 = 1")
    with nothing, no_run_for(ada_of(record)), pytest.raises(DatabaseError) as raised:
        recover(record, RunKind.CLEANUP)
    assert not AuditEntry.objects.exists()
    (logged,) = [entry for entry in caplog.records if entry.message == "audit_not_written"]
    context = vars(logged)
    assert (context["action"], context["user"], context["reason"]) == ("cleanup", str(record.user_id), "why")
    assert context["error"] == str(raised.value)


@pytest.mark.parametrize(
    ("action", "command"),
    [
        ("cleanup", ["recover_user", "ada"]),
        ("reset", ["recover_user", "ada", "--reset"]),
        ("dry_run", ["recover_user", "ada", "--dry-run"]),
        ("set_limit", ["set_limit", "ada", "5"]),
        ("drain_node", ["drain_node", "web-1"]),
    ],
)
def test_a_command_that_fails_prints_one_line(action: str, command: list[str], record: ManagerRecord) -> None:
    with bad_row(record, action), pytest.raises(CommandError) as raised:
        call_command(*command)
    assert str(raised.value) == "The database refused that, and it was not done: bad row"
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.outcome) == (action, "failed: bad row")
