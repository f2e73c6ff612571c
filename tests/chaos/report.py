"""Report a run as text, as JSON, and as a row of the table in docs/reliability.md."""

import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

from tests.chaos.history import History
from tests.chaos.judges.verdict import Verdict
from tests.chaos.schedule import Plan

BEGIN, END = "<!-- seeds -->", "<!-- /seeds -->"
COLUMNS = (
    "seed", "seconds", "pause", "clients", "faults", "handshakes", "admitted", "refused", "records = sockets",
    "agreed after", "living wrongly closed", "acknowledged ≤ stored", "fenced", "runs", "violations",
)  # fmt: skip
SHOWN = 10  # violations of one invariant

Verdicts = dict[str, Verdict]


def violations(verdicts: Verdicts) -> int:
    return sum(len(verdict.violations) for verdict in verdicts.values())


def text(history: History, verdicts: Verdicts) -> str:
    lines = ["invariant              checked  violations"]
    lines += [f"{name:22} {v.checked:7}  {len(v.violations):10}{_counts(v)}" for name, v in verdicts.items()]
    lines += [f"{number} {name}" for name, number in history.counts().items()]
    for name, verdict in verdicts.items():
        if not verdict.holds:
            lines += ["", f"VIOLATED: {name}", *(f"  {violation}" for violation in verdict.violations[:SHOWN])]
    if violations(verdicts):
        lines += ["", f"seed {history.seed}; what was done, with the machine's time:"]
        lines += [
            f"  {window.began:.2f} to {window.ended:.2f}  {window.kind} {window.target}" for window in history.windows
        ]
    return "\n".join(lines)


def _counts(verdict: Verdict) -> str:
    counts = ", ".join(f"{name} {number}" for name, number in sorted(verdict.counts.items()))
    return f"  {counts}" if counts else ""


def as_json(history: History, verdicts: Verdicts) -> str:
    said = {
        name: {"checked": v.checked, "violations": v.violations, "counts": dict(v.counts)}
        for name, v in verdicts.items()
    }
    document = {
        "seed": history.seed,
        "counts": history.counts(),
        "verdicts": said,
        "history": asdict(replace(history, samples=[])),
    }
    return json.dumps(document, default=_plain, indent=1)


def _plain(value: object) -> object:
    if isinstance(value, set):
        return sorted(value)
    raise TypeError(type(value).__name__)


def row(history: History, plan: Plan, verdicts: Verdicts) -> dict[str, str]:
    counts, agreed = history.counts(), history.agreement
    refused: Counter[str] = verdicts["never locked out"].counts
    stored = verdicts["nothing lost"].counts
    wrongly = verdicts["the living are spared"].counts["living wrongly closed"]
    took = "never" if agreed.at is None else f"{agreed.at - agreed.healed:.1f} s"
    cells = [
        history.seed, f"{plan.seconds:g}", f"{plan.pause:g}", plan.clients,
        counts["faults"], counts["handshakes"], counts["admitted"],
        ", ".join(f"{number} {cause}" for cause, number in sorted(refused.items())) or "none",
        f"{len(agreed.held)} = {len(agreed.sockets)}", took, wrongly,
        f"{stored['acknowledged']} ≤ {stored['stored']}", counts["fenced"], counts["runs"], violations(verdicts),
    ]  # fmt: skip
    return dict(zip(COLUMNS, map(str, cells), strict=True))


def has_marks(document: Path) -> bool:
    return document.is_file() and -1 < document.read_text().find(BEGIN) < document.read_text().find(END)


def fill(document: Path, new: dict[str, str]) -> None:
    """Add a row between the marks, in place of an earlier row of the same seed."""
    before, _, rest = document.read_text().partition(BEGIN)
    inside, _, after = rest.partition(END)
    rows = [line for line in inside.splitlines() if line.startswith("| ") and line.split("|")[1].strip().isdigit()]
    rows = [line for line in rows if line.split("|")[1].strip() != new["seed"]]
    rows.append(f"| {' | '.join(new.values())} |")
    rows.sort(key=lambda line: int(line.split("|")[1]))
    table = "\n".join([f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}", *rows])
    document.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")
