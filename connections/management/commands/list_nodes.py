from typing import Any

from django.db.models import Count, Q

from connections import database
from connections.conf import tunables
from connections.management.base import Command as Base
from connections.management.base import table
from connections.models import Node
from connections.recovery.inspection import describe_node

COLUMNS = ["name", "pid", "alive", "steady", "fenced", "draining", "managers", "started_at", "id"]


class Command(Base):
    help = "List nodes, the newest first."

    def handle(self, *args: Any, **options: Any) -> None:
        now, values = database.now(), tunables()
        nodes = Node.objects.annotate(
            held=Count("records", filter=Q(records__id__isnull=False, records__closed_at__isnull=True))
        )
        found = [describe_node(node, now, values, node.held) for node in nodes.order_by("-started_at")]
        self.answer(found, as_json=options["json"], lines=table(found, COLUMNS, "No nodes."))
