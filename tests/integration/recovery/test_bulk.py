"""Recovery of many users at once: a lock that keeps one of them keeps no other."""

import psycopg
import pytest
from django.contrib.auth.models import User

from connections.policy.actor import Actor
from connections.policy.states import ActorKind
from connections.recovery.bulk import recover_each
from tests.support.databases import Database
from tests.support.default_database import default_database

pytestmark = pytest.mark.django_db
STAFF = Actor(ActorKind.STAFF, "lena")


@pytest.mark.parametrize("locked", ["u1", "u2"])
def test_a_lock_on_the_run_of_one_keeps_no_other(locked: str, postgres_database: Database) -> None:
    options = {"options": "-c lock_timeout=300"}
    with psycopg.connect(postgres_database.url) as stranger, default_database(postgres_database.url, OPTIONS=options):
        users = list(User.objects.filter(username__in=("u1", "u2", "u3")).order_by("username"))
        recover_each([user for user in users if user.username == locked], STAFF, "they report zombies")
        stranger.execute("SELECT 1 FROM connections_recoveryrun FOR UPDATE")
        done = recover_each(users, STAFF, "they report zombies")
        stranger.rollback()
    assert (done.opened, done.failed, done.left_out) == (2, [locked], [])
