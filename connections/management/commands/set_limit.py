from typing import Any

from django.core.management.base import CommandError, CommandParser

from connections import database
from connections.management.base import Command as Base
from connections.management.base import duration, positive
from connections.policy.actor import Actor
from connections.recovery import actions
from connections.recovery.inspection import DEFAULT_POOL


class Command(Base):
    help = "Set or clear a user's own soft limit."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("user", metavar="U", help="username, email or #id")
        parser.add_argument("limit", metavar="N", nargs="?", type=positive)
        parser.add_argument("--pool", default=DEFAULT_POOL)
        parser.add_argument("--for", dest="lasts", type=duration, metavar="DURATION", help="like 90s, 15m, 2h, 7d")
        parser.add_argument("--reason", default="set_limit")
        parser.add_argument("--clear", action="store_true", help="back to the default")

    def handle(self, *args: Any, **options: Any) -> None:
        limit, clear = options["limit"], options["clear"]
        if clear == (limit is not None):
            self.refuse("Give either a limit or --clear.")
        if clear and options["lasts"]:
            self.refuse("--for goes with a limit, not with --clear.")
        if len(options["pool"]) > 50:
            self.refuse("--pool is at most 50 characters.")
        user = self.user(options["user"])
        try:
            expires = database.now() + options["lasts"] if options["lasts"] else None
        except OverflowError as error:
            raise CommandError("--for is too long.") from error
        gate = actions.set_limit(
            user, options["pool"], limit, expires_at=expires, reason=options["reason"], actor=Actor.command()
        )
        document = {
            "user_id": user.pk if isinstance(user.pk, int) else str(user.pk),
            "username": user.get_username(),
            "pool": gate.pool,
            "soft_limit": gate.soft_limit,
            "expires_at": gate.expires_at,
        }
        what = "back to the default" if limit is None else str(limit)
        self.answer(document, as_json=options["json"], lines=[f"{user.get_username()} in {gate.pool}: {what}"])

    def refuse(self, sentence: str) -> None:
        self.stderr.write(sentence)
        self.stop(2)
