"""Fixtures for the tests of the admin: members of staff and a superuser in Django's test client."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.support.staff import Login, lead, log_in, quick_passwords, support, viewer

__all__ = ["lead", "log_in", "quick_passwords", "support", "viewer"]


@pytest.fixture
def superuser(db: None, log_in: Login) -> Client:
    return log_in(User.objects.create_superuser("root", password="demo"))
