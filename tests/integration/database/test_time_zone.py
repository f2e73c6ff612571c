"""DATABASES with a TIME_ZONE: times of ours, also those written into sentences, are in UTC."""

from datetime import UTC, datetime, timedelta

import pytest

from connections import database
from connections.models import Node
from connections.policy.wording import clock_time
from connections.recovery.findings import evidence_of
from tests.support.databases import Database
from tests.support.default_database import default_database
from tests.support.rows import make_node

pytestmark = pytest.mark.django_db


def test_the_clock_and_the_evidence_are_in_utc(postgres_database: Database) -> None:
    with default_database(postgres_database.url, TIME_ZONE="Asia/Tokyo"):
        now = database.now()
        assert now.utcoffset() == timedelta(0)
        assert abs((now - datetime.now(UTC)).total_seconds()) < 60
        fenced_at = datetime(2026, 3, 1, 15, 4, 5, tzinfo=UTC)
        node = make_node("web-1", fenced_at=fenced_at, fenced_evidence="no renewal")
        read = Node.objects.get(pk=node.pk)
        assert read.fenced_at == fenced_at
        assert evidence_of(read) == "node web-1 was fenced at 15:04:05 UTC: no renewal"
        assert clock_time(read.fenced_at) == "15:04:05 UTC"
