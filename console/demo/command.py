"""What the commands `demo` and `cluster` share: how they start, what they say, and how they end."""

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

LOOK_SECONDS = 0.25  # how often they look whether their processes are still there
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoCommand(Base):
    """A command that shows the scene until a signal ends it, which leaves nothing running."""

    make = ""
    """The make target that runs it."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--live", action="store_true", help="on the default timings: the product heals by itself")

    def refuse_ports(self, first: int, count: int = 1) -> None:
        last = first + count - 1
        if not 1 <= first <= last <= 65_535:
            raise CommandError(f"--port {first} is not between 1 and {65_536 - count}.")
        for port in range(first, last + 1):
            if not is_free(port):
                raise CommandError(
                    f"Port {port} is in use; this may be running already. Stop what uses it, or choose another: "
                    f"make {self.make} PORT={last + 1}"
                )

    def run_until_signal(self, show: Callable[[], None]) -> None:
        """Run it until it ends by itself, with what that says, or until a signal."""
        if settings.AUTH_USER_MODEL != "auth.User":
            raise CommandError(f"The demo brings people of its own, which {settings.AUTH_USER_MODEL} can't be.")
        Serve().refuse_inconsistent()
        for number in _SIGNALS:
            signal.signal(number, _stop)
        try:
            show()
        except (rows.RefusedError, DiedError) as error:
            raise CommandError(str(error)) from error

    def folder(self, name: str) -> Path:
        """For the logs, and whatever else it leaves in the checkout."""
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
        """What there is to see, now that it is there. `more` is for the JSON document, `lines` for people."""
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
    "Left alone the product would heal her within seconds. So that you can see her stuck, the automatic",
    "sweep is paused and the heartbeat is slow. (Her next connect would heal her too.)",
]
_LIVE = [
    f"This runs on the default timings, so {STUCK} heals by herself: the {LOST} managers on the killed server",
    f"are freed within about 20 seconds, and the {SILENT} that never answer within about 40. Her page has the",
    "timeline of it.",
]


def _stop(number: int, frame: object) -> NoReturn:
    """Once: what follows is bounded, and another Ctrl-C would only leave something running."""
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt
