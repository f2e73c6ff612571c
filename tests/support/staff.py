"""Fixtures with logged-in members of staff in Django's test client. The conftest.py of a test folder imports them."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from tests.support import rows

Login = Callable[[User], Client]
HTMX: dict[str, Any] = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def quick_passwords(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def log_in() -> Login:
    def log_in(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def viewer(db: None, log_in: Login) -> Client:
    return log_in(rows.make_staff(rows.VIEWER, "viewer"))


@pytest.fixture
def support(db: None, log_in: Login) -> Client:
    return log_in(rows.make_staff(rows.SUPPORT, "support"))


@pytest.fixture
def lead(db: None, log_in: Login) -> Client:
    return log_in(rows.make_staff(rows.LEAD, "lead"))
