from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser

from connections.conf import tunables
from connections.management.base import Command as Base
from connections.management.base import duration
from connections.records.pruning import outdated, prune


class Command(Base):
    done_before = "What was deleted before stays deleted; run it again for the rest."
    help = "Delete closed records, runs, refusals and audit entries past retention."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--older-than", type=duration, metavar="DURATION", help="like 30d")
        parser.add_argument("--dry-run", action="store_true", help="say how many, and delete nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        age = options["older_than"] or timedelta(days=tunables().history_days)
        if options["dry_run"]:
            counts = {kind: rows.count() for kind, rows in outdated(age, audit=True).items()}
        else:
            counts = dict(prune(age, audit=True))
        verb = "would be deleted" if options["dry_run"] else "deleted"
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()) if count) or "nothing"
        self.answer({"deleted": counts}, as_json=options["json"], lines=[f"{listed} {verb}"])
