from typing import Any

from django.core.management.base import CommandError, CommandParser

from connections.management.base import Command as Base
from connections.policy.actor import Actor
from connections.recovery import actions


class Command(Base):
    help = "Ask a node to drain: no new admissions, its clients moved, then it exits."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("node", metavar="N", help="id, or name of the newest")
        parser.add_argument("--reason", default="drain_node")

    def handle(self, *args: Any, **options: Any) -> None:
        node = self.node(options["node"])
        if node.gone:
            raise CommandError(f"Node {node.name} is gone already.")
        asked = actions.drain(node, actor=Actor.command(), reason=options["reason"])
        document = {"id": str(node.pk), "name": node.name, "asked": asked}
        said = "is asked to drain" if asked else "was draining already"
        self.answer(document, as_json=options["json"], lines=[f"Node {node.name} {said}."])
