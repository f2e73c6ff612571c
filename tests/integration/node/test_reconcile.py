"""A node's records against its managers, both ways, in slices."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
from django.utils import timezone
from prometheus_client import REGISTRY

from connections import database
from connections.models import ManagerRecord
from connections.node.beat import Beat
from connections.policy.states import ActorKind, CloseReason, RecordState
from tests.support.databases import Database
from tests.support.quiet_node import bulk_records, quiet_node, spent
from tests.support.rows import make_node, make_user


def orphans_counted() -> float:
    return REGISTRY.get_sample_value("connections_reconcile_drift_total", {"kind": "orphaned"}) or 0.0


def closed_fields(reason: str) -> dict[str, Any]:
    return {
        "state": RecordState.CLOSED, "closed_at": timezone.now(), "close_reason": reason,
        "actor_kind": ActorKind.SYSTEM,
    }  # fmt: skip


def test_managers_whose_records_are_gone_are_closed_in_slices(postgres: Database) -> None:
    ada = make_user("ada")
    with quiet_node(make_node(), reconcile_seconds=0.0) as node:
        words = {
            "reset": ("reset", 1000), "blocked": ("blocked", 100), "client_closed": ("orphaned", 100),
        }  # fmt: skip
        expected = {
            manager: sent
            for word, (sent, count) in words.items()
            for manager in node.manage_all(bulk_records(count, ada, node.row, **closed_fields(word)))
        }
        deleted = node.manage_all(bulk_records(100, ada, node.row))
        ManagerRecord.objects.filter(pk__in=[manager.id for manager in deleted]).delete()
        expected |= dict.fromkeys(deleted, "orphaned")
        living = node.manage_all(bulk_records(300, ada, node.row))
        beat = Beat(node.parts, ring_recovery=lambda: None, budget=spent)
        for closed in (500, 1000, 1300):
            beat()
            node.turn_loop()
            assert sum(manager.closing for manager in expected) == closed
        orders = {manager: manager._order for manager in expected}
        assert orders == {manager: (sent, "its record was closed") for manager, sent in expected.items()}
        assert not any(manager.closing for manager in living)


def test_what_is_young_or_being_written_is_passed_over(postgres: Database) -> None:
    ada = make_user("ada")
    with quiet_node(make_node(), reconcile_seconds=0.0) as node:
        (young,) = bulk_records(1, ada, node.row, opened_at=database.now() - timedelta(seconds=1))
        (written,) = bulk_records(1, ada, node.row)
        (lost,) = node.manage_all(bulk_records(1, ada, node.row, **closed_fields("reset")))
        for pk in (written.pk, lost.id):
            node.parts.writer.release(pk, CloseReason.CLIENT_GONE, "still in the queue")
        beat = Beat(node.parts, ring_recovery=lambda: None)
        beat()
        node.turn_loop()
        assert set(ManagerRecord.objects.held()) == {young, written}
        assert not lost.closing


def test_a_locked_orphan_is_freed_in_the_round_after_the_lock(postgres: Database) -> None:
    with quiet_node(make_node(), reconcile_seconds=0.0) as node:
        orphans, drift = bulk_records(300, make_user("ada"), node.row), orphans_counted()
        beat = Beat(node.parts, ring_recovery=lambda: None)
        with psycopg.connect(postgres.url) as stranger:
            stranger.execute("SELECT 1 FROM connections_managerrecord WHERE id = %s FOR UPDATE", [orphans[0].pk])
            beat()
            node.parts.tunables = replace(node.parts.tunables, reconcile_seconds=3600.0)
            beat()  # compares once more, and then for an hour not again
            assert set(ManagerRecord.objects.held()) == {orphans[0]}
            assert orphans_counted() - drift == 300, "the locked one was found twice, and counts once"
        beat()
        assert not ManagerRecord.objects.held().exists()


def test_what_an_earlier_identity_held_is_left_to_the_sweep(postgres: Database) -> None:
    with quiet_node(make_node(), reconcile_seconds=0.0) as node:
        (orphan,) = bulk_records(1, make_user("ada"), node.row)
        beat = Beat(node.parts, ring_recovery=lambda: None)
        with psycopg.connect(postgres.url) as stranger:
            stranger.execute("SELECT 1 FROM connections_managerrecord WHERE id = %s FOR UPDATE", [orphan.pk])
            beat()
        node.parts.identity.id = make_node("web-1").pk
        beat()
        assert ManagerRecord.objects.held().get() == orphan
