"""Tables of results: as text for a terminal, as Markdown for the docs, and as JSON."""

import json
import os
import platform
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
LIBRARIES = ("django", "channels", "daphne", "uvicorn", "psycopg", "picows")


@dataclass
class Table:
    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: list[dict[str, Any]] = field(default_factory=list)
    """The measurements that the rows summarize, for `--json`."""

    def text(self) -> str:
        cells = [self.columns, *self.rows]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
        ]
        return "\n".join([self.title, *lines, *self.notes])

    def markdown(self) -> str:
        rows = [self.columns, ["---"] * len(self.columns), *self.rows]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        return "\n\n".join([f"### {self.title}", table, *self.notes])


def machine() -> str:
    """The machine's cores and the versions of Python and of `LIBRARIES`, in one line."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def as_json(tables: list[Table]) -> str:
    results = [{"title": table.title, "rows": _as_dicts(table), "raw": table.raw} for table in tables]
    return json.dumps({"machine": machine(), "tables": results}, indent=1)


def _as_dicts(table: Table) -> list[dict[str, str]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def has_markers(document: Path) -> bool:
    """Whether the document has `BEGIN` and, after it, `END`."""
    return document.is_file() and -1 < document.read_text().find(BEGIN) < document.read_text().find(END)


def fill(document: Path, tables: list[Table]) -> None:
    """Replace what stands between the markers of the document, which must have them (`has_markers`)."""
    before, _, rest = document.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    figures = "\n\n".join([f"Measured on: {machine()}.", *(table.markdown() for table in tables)])
    document.write_text(f"{before}{BEGIN}\n{figures}\n{END}{after}")
