"""`python -m benchmarks [WHAT …]`, or `make bench ARGS="WHAT …"`."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.client_limit import ceiling
from benchmarks.kicks import kicks
from benchmarks.memory import memory
from benchmarks.profiling import LOADS, profile
from benchmarks.report import Table, as_json, fill, has_marks, machine
from benchmarks.sizes import FULL, TINY
from benchmarks.stage import KINDS, VENDORS, Stage
from benchmarks.statements import statements
from benchmarks.throughput import echoes, handshakes

WHAT = ("ceiling", "handshakes", "echoes", "memory", "statements", "kicks")


def main() -> None:
    options = _options()
    tables: list[Table] = []
    with Stage(TINY if options.tiny else FULL) as stage:
        for table in _measured(stage, options):
            print(f"{table.text()}\n", flush=True)
            tables.append(table)
    print(machine())
    if options.json:
        options.json.write_text(as_json(tables) + "\n")
    if options.markdown:
        fill(options.markdown, tables)


def _measured(stage: Stage, options: argparse.Namespace) -> Iterator[Table]:
    kinds = [options.server] if options.server else KINDS
    vendors = [options.database] if options.database else VENDORS
    if options.what[:1] == ["profile"]:
        for what in options.what[1:]:
            yield from profile(stage, what, kinds[0], vendors[0])
        return
    benches: dict[str, Callable[[], Table]] = {
        "ceiling": lambda: ceiling(stage),
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


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", description="What the middleware costs, side by side with none."
    )
    parser.add_argument(
        "what", nargs="*", type=_what, help=f"{', '.join(WHAT)} (default: all), or: profile {' | '.join(LOADS)}"
    )
    parser.add_argument("--server", choices=KINDS, help="only this one (default: both)")
    parser.add_argument("--database", choices=VENDORS, help="only this one (default: both)")
    parser.add_argument("--tiny", action="store_true", help="see that it runs; the figures mean nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single measurement")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the tables between the marks of a document")
    options = parser.parse_args()
    first, *others = options.what or WHAT
    if "profile" in options.what and not (first == "profile" and others and LOADS.keys() >= {*others}):
        parser.error(f"profile stands first, and then {' or '.join(LOADS)}")
    if options.markdown and not has_marks(options.markdown):  # better said now than after the run
        parser.error(f"{options.markdown} has no marks between which figures go")
    return options


def _what(text: str) -> str:
    if text not in (*WHAT, "profile"):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join((*WHAT, 'profile'))}")
    return text


if __name__ == "__main__":
    main()
