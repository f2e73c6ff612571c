"""Shared by the commands `demo` and `cluster`: start, output and end."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from connections.management.base import Command as Base
from connections.management.base import table
from connections.management.commands.serve import Command as Serve
from console.demo import rows
from console.demo.people import LOST, PASSWORD, PEOPLE, SHOWN, SILENT, STUCK
from console.demo.processes import DiedError, is_free
from console.demo.scene import Place

LOOK_SECONDS = 0.25  # between two checks that the processes still run
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoCommand(Base):
    """A command that runs the demo until a signal ends it, and leaves no process running."""

    make = ""
    """The make target that runs it."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument(
            "--live", action="store_true", help="use the default timings: stuck users recover by themselves"
        )

    def refuse_ports(self, first: int, count: int = 1) -> None:
        last = first + count - 1
        if not 1 <= first <= last <= 65_535:
            raise CommandError(f"--port {first} is not between 1 and {65_536 - count}.")
        for port in range(first, last + 1):
            if not is_free(port):
                raise CommandError(
                    f"Port {port} is in use, perhaps by this demo. Stop the process that uses it, or choose "
                    "another port: "
                    f"make {self.make} PORT={last + 1}"
                )

    def run_until_signal(self, show: Callable[[], None]) -> None:
        """Call `show` until it returns or a signal comes. Its refusals and failures become the command's error."""
        if settings.AUTH_USER_MODEL != "auth.User":
            raise CommandError(f"The demo makes users of auth.User, but AUTH_USER_MODEL is {settings.AUTH_USER_MODEL}.")
        Serve().refuse_inconsistent()
        for number in _SIGNALS:
            signal.signal(number, _stop)
        try:
            show()
        except (rows.RefusedError, DiedError) as error:
            raise CommandError(str(error)) from error

    def folder(self, name: str) -> Path:
        """Return a folder in the checkout, for logs and other files. Make it if needed."""
        folder = Path(settings.BASE_DIR) / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def look(self) -> None:
        time.sleep(LOOK_SECONDS)

    def say(self, text: str, options: dict[str, Any]) -> None:
        if not options["json"]:
            self.stdout.write(text)
            self.stdout.flush()

    def present(self, place: Place, more: dict[str, Any], lines: list[str], options: dict[str, Any]) -> None:
        """Print the addresses and the log-ins. `more` is added to the JSON document, `lines` to the text."""
        url = place.url
        people = [
            {
                "username": person.name,
                "password": PASSWORD,
                "about": person.about,
                "address": f"{url}/console/" if person.group else f"{url}/chat/",
            }
            for person in PEOPLE
            if person.name in SHOWN
        ]
        document = {"console": f"{url}/console/", "chat": f"{url}/chat/", "live": options["live"], "users": people}
        text = [
            "",
            f"Console  {url}/console/   for support staff",
            f"Chat     {url}/chat/      for end users",
            f"Admin    {url}/admin/     for bulk inspection",
            "",
            *table(people, ["username", "password", "about"], ""),
            "",
            *(_LIVE if options["live"] else [*_PAUSED, f"To run on the defaults: --live, or make {self.make} LIVE=1"]),
            "",
            *lines,
        ]
        self.answer(document | more, as_json=options["json"], lines=text)
        self.stdout.flush()


_PAUSED = [
    f"{STUCK} is really stuck: {LOST} of her managers were on a server that was killed, and {SILENT} belong to",
    "clients that never answer. Log in as support, open her page, and click Recover user.",
    "",
    "By default she would recover by herself within seconds. So that you can see her stuck, the automatic",
    "sweep is paused and the heartbeat is slow. (Her next connection would free her managers too.)",
]
_LIVE = [
    f"This runs on the default timings, so {STUCK} recovers by herself: the {LOST} managers on the killed server",
    f"are freed within about 20 seconds, and the {SILENT} that never answer within about 40. Her page has the",
    "timeline.",
]


def _stop(number: int, frame: object) -> NoReturn:
    """Handle the first signal only: ending takes bounded time, and a second Ctrl-C could leave processes running."""
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt
