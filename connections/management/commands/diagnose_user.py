from typing import Any

from django.core.management.base import CommandError, CommandParser

from connections.conf import tunables
from connections.management.base import Command as Base
from connections.policy.actor import Actor
from connections.policy.states import RunKind
from connections.recovery import runs
from connections.recovery.inspection import diagnose_user, diagnosis_of_run


class Command(Base):
    help = "Say why a user can't connect. Asks the clients, closes nothing and fences nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("user", metavar="U", help="username, email or #id")
        parser.add_argument("--no-roll-call", action="store_true", help="from stored facts alone")

    def handle(self, *args: Any, **options: Any) -> None:
        user = self.user(options["user"])
        if options["no_roll_call"]:
            found = diagnose_user(user)
        else:
            values = tunables()
            run, _ = runs.request(
                user,
                RunKind.CLEANUP,
                actor=Actor.command(),
                reason="diagnose_user",
                dry_run=True,
                action="check",
            )
            self.done_before = f"Nothing was closed. The roll call goes on: see run {run.pk} in the console."
            run = runs.wait(run.pk, 2 * values.lease_seconds + values.probe_seconds + 5)
            if run.finished_at is None:
                raise CommandError("The roll call did not end in time.")
            found = diagnosis_of_run(run)
        document = {"user_id": _key(user.pk), "username": user.get_username(), **found.as_json()}
        lines = [found.summary, *(f"  {cause.text}" for cause in found.causes), f"Suggested: {found.suggestion}"]
        self.answer(document, as_json=options["json"], lines=lines)


def _key(pk: Any) -> Any:
    return pk if isinstance(pk, int) else str(pk)
