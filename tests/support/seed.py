"""Fill the database of DATABASE_URL for tests: `python -m tests.support.seed` with a JSON request on stdin.

A process of its own does this, so that it works on any database, whatever the test process is connected to. The request
is `{"migrate": bool, "users": [{"name": str, "group": str | null, "superuser": bool}]}`. The process prints a JSON
object with `{"id": int | str, "session": str}` for each user's name; the session is logged in.
"""

import json
import os
import sys
from typing import Any

PASSWORD = "test"


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    import django

    django.setup()
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
    from django.contrib.auth.hashers import make_password
    from django.contrib.auth.models import Group
    from django.contrib.sessions.backends.db import SessionStore
    from django.core.management import call_command
    from django.db import connections, transaction

    request = json.load(sys.stdin)
    if request["migrate"]:
        for name in connections:
            call_command("migrate", database=name, verbosity=0, interactive=False)
    password = make_password(PASSWORD)  # one hash for all users: hashing is slow on purpose
    made = {}
    model: Any = get_user_model()
    with transaction.atomic():
        for wanted in request["users"]:
            name, group = wanted["name"], wanted["group"]
            user = model.objects.create(
                **({"username": name} if model.USERNAME_FIELD == "username" else {}),
                email=f"{name}@example.org",
                password=password,
                is_staff=bool(group) or wanted["superuser"],
                is_superuser=wanted["superuser"],
            )
            if group:
                user.groups.add(Group.objects.using(user._state.db).get(name=group))
            session = SessionStore()
            session[SESSION_KEY] = str(user.pk)
            session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
            session[HASH_SESSION_KEY] = user.get_session_auth_hash()
            session.create()
            made[name] = {"id": getattr(user.pk, "hex", user.pk), "session": session.session_key}
    json.dump(made, sys.stdout)


if __name__ == "__main__":
    main()
