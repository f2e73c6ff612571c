"""A command is the witness while no node can be one: on a real PostgreSQL, beside a node that has just died."""

import json
import time
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from pytest_django import DjangoDbBlocker

from connections import database
from connections.conf import tunables
from connections.models import Node
from connections.recovery.witness import acting_as_witness
from tests.support.databases import Database
from tests.support.default_database import default_database
from tests.support.rows import make_gate, make_node, make_records, make_user

TIMINGS = {"BEAT": 0.25, "LEASE": 3, "PROBE": 0.5}


@pytest.fixture(autouse=True)
def quick(
    postgres_database: Database, django_db_blocker: DjangoDbBlocker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    for name, seconds in TIMINGS.items():
        monkeypatch.setenv(f"CONNECTIONS_{name}_SECONDS", str(seconds))
    tunables.cache_clear()
    with django_db_blocker.unblock(), default_database(postgres_database.url):
        yield
    monkeypatch.undo()
    tunables.cache_clear()


def answer_of(*command: str) -> Any:
    out = StringIO()
    call_command(*command, "--json", stdout=out)
    return json.loads(out.getvalue())


def test_a_recovery_right_after_the_crash_of_the_only_node_frees_its_managers() -> None:
    ada = make_user("ada")
    make_gate(ada)
    make_records(2, ada, make_node("web-1"))  # which renews its lease no more from now on
    report = answer_of("recover_user", "ada")
    assert (report["outcome"], report["freed"]) == ("recovered", {"node_lost": 2})
    command = Node.objects.get(serves=False)
    assert command.retired_at is not None


def test_one_sweep_within_a_lease_of_the_crash_of_the_only_node_frees_its_managers() -> None:
    make_records(2, make_user("ada"), make_node("web-1", silent=1))
    assert answer_of("sweep", "--once") == {"freed": {"node_lost": 2}, "failed": 0}


def test_beside_a_steady_node_and_without_any_node_none_is_registered() -> None:
    for _ in range(2):
        with acting_as_witness(tunables()) as witness:
            began = time.monotonic()
            witness.wait_until_steady()
            assert time.monotonic() - began < TIMINGS["LEASE"]
            while time.monotonic() - began < 3 * TIMINGS["BEAT"]:
                Node.objects.update(renewed_at=database.now())
                time.sleep(0.05)
        assert not Node.objects.filter(serves=False).exists()
        make_node("web-1")
