"""Headers of every HTTP response, and static files without collectstatic."""

from typing import Any

import pytest
from django.test import AsyncClient, Client

from console.middleware import CONTENT_SECURITY_POLICY
from tests.support.clients import run

pytestmark = pytest.mark.django_db

STYLESHEET = "/static/vendor/pico/pico.min.css"


@pytest.mark.parametrize("path", [STYLESHEET, "/no-such-page/"])
def test_every_response_has_the_content_security_policy(path: str) -> None:
    response = Client().get(path)
    assert response.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY


def test_the_admin_has_the_same_content_security_policy() -> None:
    response = Client().get("/admin/login/")
    assert response.status_code == 200
    assert response.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert response.headers["X-Frame-Options"] == "DENY"
    assert response.headers["Referrer-Policy"] == "same-origin"
    assert b"<script>" not in response.content
    assert b"<style" not in response.content


def test_metrics_are_not_found_unless_a_setting_says_so() -> None:
    assert Client().get("/metrics").status_code == 404


def test_static_files_need_no_collectstatic() -> None:
    async def get() -> tuple[int, dict[str, str], bytes]:
        response: Any = await AsyncClient().get(STYLESHEET)  # a streaming response, which the type stubs don't know
        return response.status_code, dict(response.headers), b"".join([part async for part in response])

    status, headers, body = run(get())
    assert status == 200
    assert headers["Content-Type"].startswith("text/css")
    assert headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert b"Pico CSS" in body
