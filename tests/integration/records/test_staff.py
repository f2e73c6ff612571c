"""connections/records/staff.py"""

from io import BytesIO
from ipaddress import ip_network

import pytest
from django.contrib.auth.models import User
from django.core.handlers.asgi import ASGIRequest

from connections.conf import Tunables
from connections.policy.states import ActorKind
from connections.records import staff


def test_a_proxys_line_counts_and_not_the_line_that_the_client_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    trusted = Tunables(trusted_proxies=(ip_network("10.0.0.5"),))
    monkeypatch.setattr(staff, "tunables", lambda: trusted)
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/console/",
        "client": ("10.0.0.5", 40_000),
        "headers": [(b"x-forwarded-for", b"198.51.100.66"), (b"x-forwarded-for", b"203.0.113.9")],
    }
    request = ASGIRequest(scope, BytesIO())
    request.user = User(pk=7, username="support")
    actor = staff.actor_of(request)
    assert (actor.kind, actor.label, actor.user_id) == (ActorKind.STAFF, "support", 7)
    assert actor.ip == "203.0.113.9"
