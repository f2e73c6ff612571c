"""A notice as text, and as a row of the table in docs/reliability.md."""

from collections import Counter
from pathlib import Path

from tests.outages.clients import ADMITTED, Attempt
from tests.outages.scenario import Notice, Scenario, percentile

BEGIN, END = "<!-- outages -->", "<!-- /outages -->"
COLUMNS = (
    "what was done", "s", "living clients", "longest wait for an answer", "other newcomers, p50 / p99 / max",
    "normally", "touched newcomers", "refused", "backlog", "leases lost", "fenced", "/readyz said 503",
    "admitted again", "ready again", "records = sockets", "leaked", "verdict",
)  # fmt: skip

Problems = list[str]


def cells(notice: Notice, problems: Problems) -> dict[str, str]:
    living = "none closed" if not notice.closed else _counts(notice.closed)
    others = [*notice.others, *notice.insistent]
    row = [
        f"{notice.scenario.what} (`{notice.scenario.name}`)", f"{notice.seconds:g}", f"{notice.living}: {living}",
        f"{notice.longest_wait:.2f} s", _times(others), _times(notice.normal), _times(notice.touched),
        _refused(notice.newcomers), notice.backlog, ", ".join(notice.lost_leases) or "none",
        ", ".join(notice.fenced) or "none", _unready(notice), _after(notice.first_admission),
        _after(notice.ready_again), _after(notice.agreed), notice.leaked, "holds" if not problems else "**fails**",
    ]  # fmt: skip
    return dict(zip(COLUMNS, map(str, row), strict=True))


def text(notice: Notice, problems: Problems) -> str:
    lines = [f"{notice.scenario.name}, {notice.seconds:g} s: {'FAILS' if problems else 'holds'}"]
    lines += [f"  {name}: {value}" for name, value in cells(notice, problems).items() if name != "verdict"]
    lines += [f"  {name}: {why}" for name, (_, why) in notice.unready.items()]
    lines += [f"  lag of the measuring process: {notice.lag:.2f} s; processes for each core: {notice.crowding:.1f}"]
    lines += [f"  NOT SO: {problem}" for problem in problems]
    return "\n".join(lines)


def _times(attempts: list[Attempt]) -> str:
    admitted = [attempt for attempt in attempts if attempt.outcome == ADMITTED]
    if not admitted:
        return f"0 of {len(attempts)}"
    times = " / ".join(_seconds(percentile(admitted, share)) for share in (0.5, 0.99, 1.0))
    return f"{times} ({len(admitted)} of {len(attempts)})"


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def _refused(attempts: list[Attempt]) -> str:
    refused = Counter(attempt.outcome for attempt in attempts if attempt.outcome != ADMITTED)
    slowest = max((attempt.seconds for attempt in attempts if attempt.outcome != ADMITTED), default=0.0)
    return f"{_counts(refused)}, {slowest:.1f} s at most" if refused else "none"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items()))


def _unready(notice: Notice) -> str:
    return ", ".join(f"{name} after {since:.1f} s" for name, (since, _) in notice.unready.items()) or "no"


def _after(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"


# The table of a document


def has_marks(document: Path) -> bool:
    return document.is_file() and -1 < document.read_text().find(BEGIN) < document.read_text().find(END)


def fill(document: Path, new: dict[str, str], order: list[Scenario]) -> None:
    """Add a row between the marks, in place of an earlier one of the same scenario and duration."""
    before, _, rest = document.read_text().partition(BEGIN)
    inside, _, after = rest.partition(END)
    names = [scenario.name for scenario in order]
    rows = {key: line for line in inside.splitlines() if (key := _key(line, names)) is not None}
    line = f"| {' | '.join(cell.replace('|', '/') for cell in new.values())} |"
    key = _key(line, names)
    assert key is not None, line
    rows[key] = line
    table = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}", *(rows[key] for key in sorted(rows))]
    document.write_text(f"{before}{BEGIN}\n" + "\n".join(table) + f"\n{END}{after}")


def _key(line: str, names: list[str]) -> tuple[int, float] | None:
    """The place of a row: its scenario's, then its duration. None for the head, and for scenarios that are no more."""
    parts = [part.strip() for part in line.split("|")]
    if len(parts) < 3 or "(`" not in parts[1]:
        return None
    name = parts[1].rpartition("(`")[2].removesuffix("`)")
    return (names.index(name), float(parts[2])) if name in names else None
