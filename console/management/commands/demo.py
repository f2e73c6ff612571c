"""The demo: a console with live users, and one user whose managers are really dead, to be recovered."""

from typing import Any

from connections.management.commands.serve import Command as Serve
from console.demo import rows
from console.demo.command import DemoCommand
from console.demo.processes import Child, free_port
from console.demo.scene import Place, scene


class Command(DemoCommand):
    help = "Serve the demo on loopback until Ctrl-C, which leaves nothing running."
    make = "run"

    def handle(self, *args: Any, **options: Any) -> None:
        self.refuse_ports(options["port"])
        self.run_until_signal(lambda: self.show(options))

    def show(self, options: dict[str, Any]) -> None:
        live = options["live"]
        place, doomed = Place(rows.MAIN, options["port"]), Place(rows.DOOMED, free_port())
        try:
            Serve().refuse_unmigrated()
            self.say(f"Starting the demo, which takes {'5' if live else '15'} seconds …", options)
            with scene([place], doomed, self.folder(f".demo/{place.port}"), live=live) as stage:
                self.present(place, {}, ["Ctrl-C ends the demo and everything it started."], options)
                self.watch([*stage.nodes.values(), stage.clients])
            self.say("The server was drained, and the demo has ended with it.", options)
        except KeyboardInterrupt:
            self.say("\nThe demo has ended, and all that it started.", options)

    def watch(self, processes: list[Child]) -> None:
        """Wait until the server has drained or a signal comes. Raises DiedError if a process ends in another way."""
        while all(process.running for process in processes):
            self.look()
        for process in processes:
            if not process.running and process.process.returncode != 0:
                raise process.died()
