"""The demo: a console full of life, one user whose managers are really dead, and a button that frees them."""

import signal
import time
from typing import Any

from django.core.management.base import CommandError, CommandParser

from connections.management.base import Command as Base
from connections.management.base import table
from connections.management.commands.serve import Command as Serve
from console.demo import rows
from console.demo.people import LOST, PASSWORD, PEOPLE, SHOWN, SILENT, STUCK
from console.demo.processes import HOST, Child, DiedError, is_free
from console.demo.scene import scene

_LOOK_SECONDS = 0.25  # how often it looks whether its processes are still there


class Command(Base):
    help = "Serve the demo on loopback until Ctrl-C, which leaves nothing running."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--live", action="store_true", help="on the default timings: the product heals by itself")

    def handle(self, *args: Any, **options: Any) -> None:
        port, live = options["port"], options["live"]
        if not 1 <= port <= 65_535:
            raise CommandError(f"--port {port} is not between 1 and 65535.")
        if not is_free(port):
            raise CommandError(
                f"Port {port} is in use; the demo may be running already. Stop what uses it, or choose another: "
                "make run PORT=8001"
            )
        serve = Serve()
        serve.refuse_inconsistent()
        serve.refuse_unmigrated()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _stop)
        self.say(f"Starting the demo, which takes {'5' if live else '15'} seconds …", options)
        try:
            with scene(port, live=live) as processes:
                self.present(port, live=live, options=options)
                self.watch(processes)
            self.say("The server was drained, and the demo has ended with it.", options)
        except KeyboardInterrupt:
            self.say("\nThe demo has ended, and all that it started.", options)
        except (rows.RefusedError, DiedError) as error:
            raise CommandError(str(error)) from error

    def watch(self, processes: list[Child]) -> None:
        """Until the server was drained, or a signal ends us. Raises DiedError where one ended in another way."""
        while all(process.running for process in processes):
            time.sleep(_LOOK_SECONDS)
        for process in processes:
            if not process.running and process.process.returncode != 0:
                raise process.died()

    def say(self, text: str, options: dict[str, Any]) -> None:
        if not options["json"]:
            self.stdout.write(text)
            self.stdout.flush()

    def present(self, port: int, *, live: bool, options: dict[str, Any]) -> None:
        """What there is to see, now that it is there."""
        url = f"http://{HOST}:{port}"
        shown = [person for person in PEOPLE if person.name in SHOWN]
        people = [
            {
                "username": person.name,
                "password": PASSWORD,
                "about": person.about,
                "address": _page(url, person.group),
            }
            for person in shown
        ]
        timing = LIVE if live else PAUSED
        document = {"console": f"{url}/console/", "chat": f"{url}/chat/", "live": live, "users": people}
        lines = [
            "",
            f"Console  {url}/console/   for support staff",
            f"Chat     {url}/chat/      for end users",
            f"Admin    {url}/admin/     for bulk inspection",
            "",
            *table(people, ["username", "password", "about"], ""),
            "",
            *timing,
            "",
            "Ctrl-C ends the demo and everything it started.",
        ]
        self.answer(document, as_json=options["json"], lines=lines)
        self.stdout.flush()


PAUSED = [
    f"{STUCK} is really stuck: {LOST} of her managers were on a server that was killed, and {SILENT} belong to",
    "clients that never answer. Log in as support, open her page, and click Recover user.",
    "",
    "Left alone the product would heal her within seconds. So that you can see her stuck, the automatic",
    "sweep is paused and the heartbeat is slow. (Her next connect would heal her too.)",
    "To run on the defaults: manage.py demo --live, or make run LIVE=1",
]
LIVE = [
    f"This runs on the default timings, so {STUCK} heals by herself: the {LOST} managers on the killed server",
    f"are freed within about 20 seconds, and the {SILENT} that never answer within about 40. Her page has the",
    "timeline of it.",
]


def _page(url: str, group: str) -> str:
    return f"{url}/console/" if group else f"{url}/chat/"


def _stop(number: int, frame: object) -> None:
    """Once: what follows is bounded, and another Ctrl-C would only leave something running."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt
