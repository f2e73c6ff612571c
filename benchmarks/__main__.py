"""`python -m benchmarks [WHAT …]`, or `make bench ARGS="WHAT …"`."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.client_limit import client_limit
from benchmarks.kicks import kicks
from benchmarks.memory import memory
from benchmarks.profiling import LOADS, profile
from benchmarks.report import BEGIN, END, Table, as_json, fill, has_markers, machine
from benchmarks.sizes import FULL, TINY
from benchmarks.stage import KINDS, VENDORS, Stage
from benchmarks.statements import statements
from benchmarks.throughput import echoes, handshakes

WHAT = ("ceiling", "handshakes", "echoes", "memory", "statements", "kicks")


def main() -> None:
    options = _parse_arguments()
    tables: list[Table] = []
    with Stage(TINY if options.tiny else FULL) as stage:
        for table in _run(stage, options):
            print(f"{table.text()}\n", flush=True)
            tables.append(table)
    print(machine())
    if options.json:
        options.json.write_text(as_json(tables) + "\n")
    if options.markdown:
        fill(options.markdown, tables)


def _run(stage: Stage, options: argparse.Namespace) -> Iterator[Table]:
    kinds = [options.server] if options.server else KINDS
    vendors = [options.database] if options.database else VENDORS
    if options.what[:1] == ["profile"]:
        for what in options.what[1:]:
            yield from profile(stage, what, kinds[0], vendors[0])
        return
    benches: dict[str, Callable[[], Table]] = {
        "ceiling": lambda: client_limit(stage),
        "handshakes": lambda: handshakes(stage, kinds, vendors),
        "echoes": lambda: echoes(stage, kinds, vendors[:1]),
        "memory": lambda: memory(stage, kinds),
        "statements": lambda: statements(stage, kinds[0]),
        "kicks": lambda: kicks(stage, kinds[0]),
    }
    for what in options.what or WHAT:
        began = time.monotonic()
        yield benches[what]()
        print(f"{what} took {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", description="What the middleware costs, compared with the same consumer without it."
    )
    parser.add_argument(
        "what", nargs="*", type=_checked, help=f"{', '.join(WHAT)} (default: all), or: profile {' | '.join(LOADS)}"
    )
    parser.add_argument("--server", choices=KINDS, help="measure only this one (default: both)")
    parser.add_argument("--database", choices=VENDORS, help="measure only this one (default: both)")
    parser.add_argument("--tiny", action="store_true", help="check that the benchmarks run; the figures mean nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the tables and each measurement as JSON")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the tables between the markers of a document"
    )
    options = parser.parse_args()
    first, *others = options.what or WHAT
    if "profile" in options.what and not (first == "profile" and others and LOADS.keys() >= {*others}):
        parser.error(f"profile must come first, followed by {' or '.join(LOADS)}")
    if options.markdown and not has_markers(options.markdown):  # fail now, not after the run
        parser.error(f"{options.markdown} has no pair of markers, {BEGIN} and {END}, to write the tables between")
    return options


def _checked(text: str) -> str:
    if text not in (*WHAT, "profile"):
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join((*WHAT, 'profile'))}")
    return text


if __name__ == "__main__":
    main()
