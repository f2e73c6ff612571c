import signal
import time
from types import FrameType
from typing import Any

from django.core.management.base import CommandParser

from connections import database
from connections.conf import tunables
from connections.management.base import LOCKED
from connections.management.base import Command as Base
from connections.records.audit import in_a_line
from connections.recovery.budget import Budget
from connections.recovery.sweep import Sweep, Swept, sweep, would_sweep
from connections.recovery.witness import acting_as_witness


class Command(Base):
    help = "Fence lost nodes and free what is proven dead: once, or until stopped."
    done_before = "What was freed before stays freed; the nodes and the next sweep free the rest."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--once", action="store_true")
        parser.add_argument("--dry-run", action="store_true", help="say what would be freed, and free nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        values = tunables()
        if options["dry_run"]:
            self.tell(would_sweep(values), options, "would be freed")
            return
        self.stopped = False
        with acting_as_witness(values) as witness:
            if options["once"]:
                witness.wait_until_steady()
                self.tell(sweep(values, "sweep command"), options, "freed")
                return
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._stop)
            passes = Sweep(values, "sweep command")
            with database.own_connection(values.beat_seconds):
                while not self.stopped:
                    try:
                        with database.round_of("sweep command"):
                            self.tell(passes.go_on(Budget(values.beat_seconds)), options, "freed")
                            self.stdout.flush()
                    except database.Busy as error:  # the next pass tries again
                        self.stderr.write(f"{LOCKED} ({in_a_line(error)})")
                    if not passes.unfinished:
                        self._pause(values.sweep_seconds or 5.0)

    def tell(self, swept: Swept, options: dict[str, Any], verb: str) -> None:
        listed = ", ".join(f"{count} {reason}" for reason, count in sorted(swept.freed.items())) or "nothing"
        failed = f"; {swept.failed} could not be freed" if swept.failed else ""
        self.answer(swept.as_json(), as_json=options["json"], lines=[f"{listed} {verb}{failed}"])

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopped = True

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.stopped and time.monotonic() < until:
            time.sleep(0.1)  # a signal handler that returns does not end a sleep
