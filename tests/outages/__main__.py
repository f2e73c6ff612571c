"""`python -m tests.outages --only NAME --seconds S`, or `make outages ARGS=…`. Exit 1 if something did not hold."""

import argparse
import asyncio
import signal
import sys
import tempfile
from pathlib import Path

from tests.outages import report
from tests.outages.judge import problems
from tests.outages.play import play
from tests.outages.rig import ServeRefuses, Unable
from tests.outages.scenario import Notice, Scenario
from tests.outages.scenarios import SCENARIOS

DOCUMENT = Path("docs/reliability.md")
INSISTENT = 1000  # clients that keep trying, where a scenario has any


def main() -> int:
    options = _options()
    if options.list:
        for scenario in SCENARIOS:
            say(f"{scenario.name:32} {scenario.what}")
        return 0
    failed = 0
    for scenario in SCENARIOS:
        if options.only and scenario.name not in options.only:
            continue
        for seconds in options.seconds or scenario.seconds:
            failed += not _show(scenario, seconds, options)
    say(f"{failed} did not hold." if failed else "All held.")
    return 1 if failed else 0


def _show(scenario: Scenario, seconds: float, options: argparse.Namespace) -> bool:
    """Play it once, print what was noticed, and write the row. Whether all held."""
    try:
        notice = _played(scenario, seconds, options.clients if scenario.insistent else 0)
    except ServeRefuses as refusal:
        say(f"{scenario.name}: `serve` refuses to start:\n{refusal}")
        return True
    except Unable as why:
        say(f"{scenario.name}: skipped: {why}")
        return True
    found = problems(notice)
    say(report.text(notice, found))
    if options.markdown:
        report.fill(options.markdown, report.cells(notice, found), SCENARIOS)
    return not found


def _played(scenario: Scenario, seconds: float, insistent: int) -> Notice:
    # The prefix is short because PostgreSQL keeps a Unix socket in the folder.
    with (
        tempfile.TemporaryDirectory(prefix="rc-", ignore_cleanup_errors=True) as folder,
        scenario.rig(Path(folder)) as rig,
    ):
        return asyncio.run(play(scenario, rig, seconds, insistent))


def say(line: str) -> None:
    print(line, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make outages", description="One outage at a time, and what was noticed.")
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help="a scenario; may be repeated")
    parser.add_argument("--list", action="store_true", help="only print the names of the scenarios")
    parser.add_argument("--seconds", action="append", type=float, help="how long each lasts; may be repeated")
    parser.add_argument(
        "--clients", type=int, default=INSISTENT, help=f"that keep trying during an outage ({INSISTENT})"
    )
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        nargs="?",
        const=DOCUMENT,
        help=f"write the rows of its table ({DOCUMENT})",
    )
    options = parser.parse_args()
    if options.markdown and not report.has_marks(options.markdown):  # fail now rather than after an hour
        parser.error(f"{options.markdown} has no marks between which rows go")
    return options


def _leave(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _leave)  # so that the servers end, as after Ctrl-C
    sys.exit(main())
