"""Fixtures for the tests of the console: members of staff and an end user in Django's test client."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.support import rows
from tests.support.staff import Login, lead, log_in, quick_passwords, support, viewer

__all__ = ["lead", "log_in", "quick_passwords", "support", "viewer"]


@pytest.fixture
def end_user(db: None, log_in: Login) -> Client:
    return log_in(rows.make_user("somebody"))


@pytest.fixture
def ada(db: None) -> User:
    return rows.make_user("ada")
