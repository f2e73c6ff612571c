"""Console, admin, dry run and commands agree on a node and its managers, in each state of the node."""

import json
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.core.management import call_command

from connections import database
from connections.admin.nodes import NodeAdmin
from connections.conf import tunables
from connections.models import Node
from connections.policy.actor import Actor
from connections.policy.states import RunKind, Verdict
from connections.records import lease
from connections.recovery import runs
from connections.recovery.findings import finding_of
from connections.recovery.inspection import diagnose_user, verdict_of
from console import wording
from console.reports.managers import held_managers
from console.reports.nodes import node_row
from tests.support import rows

pytestmark = pytest.mark.django_db(transaction=True)

ALIVE, LOST, UNKNOWN, MOVED = Verdict.ALIVE, Verdict.NODE_LOST, Verdict.UNKNOWN, Verdict.MOVED


def make(kind: str) -> Node:
    now = database.now()
    fields: dict[str, dict[str, Any]] = {
        "alive": {},
        "draining": {"drain_wanted_at": now},
        "late": {"silent": tunables().late_seconds + 1},
        "lapsed": {"silent": 60},
        "retired": {"retired_at": now},
    }
    return rows.lost_node("web-1") if kind == "fenced" else rows.make_node("web-1", **fields[kind])


@pytest.mark.parametrize("witness", [False, True])
@pytest.mark.parametrize(
    ("kind", "alone", "witnessed"),
    [
        ("alive", ALIVE, ALIVE),
        ("draining", ALIVE, ALIVE),
        ("late", ALIVE, ALIVE),
        ("lapsed", UNKNOWN, LOST),
        ("retired", MOVED, MOVED),
        ("fenced", LOST, LOST),
    ],
)
def test_console_admin_and_commands_agree_on_a_nodes_state(
    ada: User, kind: str, alone: Verdict, witnessed: Verdict, witness: bool
) -> None:
    node = make(kind)
    if witness:
        rows.make_node("witness")
    record = rows.make_record(ada, node)
    verdict, now = witnessed if witness else alone, database.now()
    fenceable = lease.would_fence(tunables(), now)

    assert node_row(node, now).state == kind
    assert NodeAdmin(Node, site).status(node) == kind
    listed = StringIO()
    call_command("list_nodes", "--json", stdout=listed)
    (said,) = [row for row in json.loads(listed.getvalue()) if row["name"] == "web-1"]
    assert said["fenced"] is (kind == "fenced")
    assert said["alive"] is (kind in ("alive", "draining", "late"))

    (row,) = held_managers(ada, now).rows
    assert row.verdict is verdict
    assert row.badge == ("live" if verdict is ALIVE else wording.VERDICTS[verdict])
    assert verdict_of(record, fenceable, now, tunables()) is verdict
    assert (diagnose_user(ada).dead > 0) is (verdict is LOST)

    run, _ = runs.request(ada, RunKind.CLEANUP, actor=Actor.command(), reason="a look", dry_run=True)
    run.due_at = run.roll_call_at = now
    run.stock = [str(record.pk)]
    found = finding_of(record, run, now, fenceable).verdict
    assert found is (UNKNOWN if verdict is ALIVE else verdict), "nobody has answered this roll call yet"
