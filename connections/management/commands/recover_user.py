from contextlib import nullcontext
from typing import Any

from django.core.management.base import CommandParser

from connections.conf import tunables
from connections.management.base import Command as Base
from connections.management.base import table
from connections.models import RecoveryRun
from connections.policy.actor import Actor
from connections.policy.states import Outcome, RunKind
from connections.recovery import runs
from connections.recovery.findings import report
from connections.recovery.witness import acting_as_witness

COLUMNS = ["verdict", "action", "pool", "evidence", "id"]


class Command(Base):
    help = "Recover a user: free the dead, and evict only if still over the limit. Or close everything (--reset)."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("user", metavar="U", help="username, email or #id")
        parser.add_argument("--reset", action="store_true", help="close everything the user holds, dead or alive")
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
        parser.add_argument("--reason", default="recover_user", help="for the audit trail")

    def handle(self, *args: Any, **options: Any) -> None:
        user = self.user(options["user"])
        values = tunables()
        kind = RunKind.RESET if options["reset"] else RunKind.CLEANUP
        with nullcontext() if options["dry_run"] else acting_as_witness(values) as witness:
            if witness is not None:
                witness.wait_until_steady()
            run, joined = runs.request(
                user, kind, actor=Actor.command(), reason=options["reason"], dry_run=options["dry_run"]
            )
            self.done_before = f"The run goes on by itself: see run {run.pk} in the console."
            # Two leases for nodes that do not answer, and the steps around them.
            run = runs.wait(run.pk, 2 * values.lease_seconds + values.probe_seconds + 4 * values.beat_seconds + 5)
        document = report(run)
        lines = [
            f"{run.shown_kind} of {user.get_username()}: {run.outcome or 'not finished'}"
            + (", joined a run under way" if joined else ""),
            f"{run.before} before, {run.after} after, limit {run.soft_limit}",
            *table(document["managers"], COLUMNS, "It holds no managers."),
        ]
        self.answer(document, as_json=options["json"], lines=lines)
        if run.outcome not in (Outcome.RECOVERED, Outcome.NOTHING_TO_DO):
            if not options["json"]:
                self.stderr.write(run.error or _why(run))
            self.stop(1)


def _why(run: RecoveryRun) -> str:
    if run.finished_at is not None:
        return f"The outcome is {run.outcome}."
    return f"It has not finished: step {run.step} waits. It goes on by itself: see run {run.pk} in the console."
