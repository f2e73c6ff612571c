"""What the commands share: `--json`, one clear line on failure, and the words of the contract for users and nodes."""

import argparse
import json
import re
import sys
from datetime import UTC, timedelta
from typing import Any, NoReturn
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError, InterfaceError

from connections import database
from connections.models import Node
from connections.records.audit import in_a_line
from connections.recovery.inspection import UnknownUser, find_user

LOCKED = "Another transaction holds a lock that this needs."
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def duration(text: str) -> timedelta:
    """argparse's `type=` for `90s`, `15m`, `2h`, `7d`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if match is None or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration like 90s, 15m, 2h or 7d")
    try:
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    except OverflowError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is too long") from error


def positive(text: str) -> int:
    """argparse's `type=` for a whole number of at least 1 that the column holds."""
    try:
        number = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from error
    if not 1 <= number <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and 1000000")
    return number


class Command(BaseCommand):
    """Base of our commands. `answer` prints the one JSON document, or lines for people."""

    requires_system_checks: Any = []
    # The error says this when the database is away or locked. A command that works bit by bit says what it has done.
    done_before = "Nothing was done."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def run_from_argv(self, argv: list[str]) -> None:
        try:
            super().run_from_argv(argv)
        except KeyboardInterrupt:
            self.stop(130)

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(self._in_words(error)) from error
        except ImproperlyConfigured as error:  # it names the variable
            raise CommandError(str(error)) from error

    def _in_words(self, error: Exception) -> str:
        said = in_a_line(error)
        if database.is_busy(error):
            return f"{LOCKED} {self.done_before} Try again in a moment. ({said})"
        if database.is_away(error):
            return f"The database does not answer, or has not been migrated: {said}. {self.done_before}"
        return f"The database refused that, and it was not done: {said}"

    def stop(self, status: int) -> NoReturn:
        sys.stdout.flush()
        sys.exit(status)

    def answer(self, document: Any, *, as_json: bool, lines: list[str]) -> None:
        if as_json:
            self.stdout.write(json.dumps(document, cls=DjangoJSONEncoder))
        else:
            for line in lines:
                self.stdout.write(line)

    def user(self, text: str) -> Any:
        try:
            return find_user(text)
        except UnknownUser as error:
            raise CommandError(str(error)) from error

    def node(self, text: str) -> Node:
        """A node by id, or the newest that bears the name."""
        try:
            found: Node | None = Node.objects.filter(pk=UUID(text)).first()
        except ValueError:
            found = None
        found = found or Node.objects.filter(name=text).order_by("-started_at").first()
        if found is None:
            raise CommandError(f"There is no node {text!r}.")
        return found


def table(rows: list[dict[str, Any]], columns: list[str], empty: str) -> list[str]:
    """Rows as lines of aligned columns."""
    if not rows:
        return [empty]
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(len(name), *(len(row[i]) for row in cells)) for i, name in enumerate(columns)]
    return ["  ".join(v.ljust(w) for v, w in zip(line, widths, strict=True)).rstrip() for line in [columns, *cells]]


def _cell(value: Any) -> str:
    if hasattr(value, "strftime"):
        return str(value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value in (None, "") else str(value)
