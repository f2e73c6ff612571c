from typing import Any

from django.core.management.base import CommandParser

from connections.management.base import Command as Base
from connections.management.base import table
from connections.models import ManagerRecord
from connections.recovery.inspection import describe_record

COLUMNS = ["username", "pool", "node", "state", "last_active_at", "close_reason", "id"]


class Command(Base):
    help = "List managers: those that are held, or as asked."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--user", metavar="U", help="username, email or #id")
        parser.add_argument("--node", metavar="N", help="id, or name of the newest")
        parser.add_argument("--pool")
        parser.add_argument("--state", choices=["held", "live", "closing", "closed", "all"], default="held")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = ManagerRecord.objects.select_related("node", "user").order_by("-opened_at", "pk")
        rows = {
            "held": rows.held,
            "live": rows.counted,
            "closing": rows.closing,
            "closed": rows.closed,
            "all": rows.all,
        }[options["state"]]()
        if options["user"] is not None:
            rows = rows.filter(user=self.user(options["user"]))
        if options["node"] is not None:
            rows = rows.filter(node=self.node(options["node"]))
        if options["pool"] is not None:
            rows = rows.filter(pool=options["pool"])
        found = [describe_record(row) for row in rows.iterator(chunk_size=1000)]
        self.answer(found, as_json=options["json"], lines=table(found, COLUMNS, "No managers."))
