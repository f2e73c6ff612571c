"""`python -m tests.chaos --seed N --seconds S --clients N`, or `make chaos ARGS=…`. Exit 1 on any violation."""

import argparse
import asyncio
import random
import signal
import sys
from pathlib import Path

from tests.chaos import report
from tests.chaos.history import History
from tests.chaos.judges import judge
from tests.chaos.run import run
from tests.chaos.schedule import Plan, schedule

MOST_SECONDS = 600.0
OTHER_SECONDS = 240.0  # for the start, the repair, the wait for agreement and the reading, which take 30 to 60
MOST_CLIENTS = 1000


def main() -> int:
    options = _options()
    plan = Plan(options.seconds, options.clients, max(4, options.clients // 10), options.pause)
    say(f"seed {options.seed}, {plan}")
    for fault in schedule(options.seed, plan):
        say(f"  {fault}")
    if options.show:
        return 0
    try:
        history = asyncio.run(_bounded(options.seed, plan))
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("Interrupted; all processes that the run started have ended.")
        return 130
    verdicts = judge(history)
    say(report.text(history, verdicts))
    if options.json:
        options.json.write_text(report.as_json(history, verdicts) + "\n")
    if options.markdown:
        report.fill(options.markdown, report.row(history, plan, verdicts))
    return 1 if report.violations(verdicts) else 0


async def _bounded(seed: int, plan: Plan) -> History:
    """Run within a time limit. SIGTERM ends the run as Ctrl-C does; asyncio handles Ctrl-C by itself."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with asyncio.timeout(plan.seconds + OTHER_SECONDS):
        return await run(seed, plan, say)


def say(line: str) -> None:
    print(line, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make chaos", description="Faults from a seed, and a verdict on each promise."
    )
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="default: drawn, and printed")
    parser.add_argument("--seconds", type=_seconds, default=60.0, help="how long faults begin (60)")
    parser.add_argument("--clients", type=_clients, default=200, help="tabs that are there at a time (200)")
    parser.add_argument("--pause", type=float, default=1.5, help="seconds between two faults, on average (1.5)")
    parser.add_argument("--show", action="store_true", help="only print what the seed would do")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was recorded")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="add a row to the table of a document")
    options = parser.parse_args()
    if options.markdown and not report.has_marks(options.markdown):  # fail now rather than after the run
        parser.error(f"{options.markdown} has no marks between which rows go")
    return options


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 1 <= seconds <= MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"1 to {MOST_SECONDS:g}")
    return seconds


def _clients(value: str) -> int:
    clients = int(value)
    if not 10 <= clients <= MOST_CLIENTS:
        raise argparse.ArgumentTypeError(f"10 to {MOST_CLIENTS}")
    return clients


if __name__ == "__main__":
    sys.exit(main())
