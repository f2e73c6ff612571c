"""Runs in the admin."""

import pytest
from django.test import Client
from django.utils import timezone

from connections.models import RunStep
from connections.policy.states import Step
from tests.support import rows
from tests.support.admin import list_url

pytestmark = pytest.mark.django_db


def test_a_run_shows_its_steps_and_what_it_found(viewer: Client) -> None:
    run = rows.make_run(rows.make_user("ada"), step=Step.REPORT)
    RunStep.objects.create(run=run, step=Step.TAKE_STOCK, at=timezone.now(), detail="20 held")
    run.findings = [
        {"id": "a", "pool": "chat", "node": "web-2", "verdict": "node_lost", "evidence": "<gone>", "action": "freed"}
    ]
    run.save()
    page = viewer.get(list_url("recoveryrun", f"{run.pk}/change/")).content.decode()
    assert "20 held" in page
    assert "on web-2: node_lost, freed. &lt;gone&gt;" in page
