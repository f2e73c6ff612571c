"""Two benchmarks run from end to end; CI runs all. No figure is checked, since at these sizes figures mean nothing."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.report import BEGIN, END
from tests.support.processes import environment

TITLES = {"handshakes": "Handshakes a second", "memory": "Memory of an idle socket"}


def test_a_benchmark_writes_its_table(tmp_path: Path) -> None:
    results, document = tmp_path / "results.json", tmp_path / "document.md"
    document.write_text(f"Before.\n{BEGIN}\nold figures\n{END}\nAfter.\n")
    command = ["--tiny", "--server", "daphne", "--database", "postgresql", "--json", results, "--markdown", document]
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks", *TITLES, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=110,
        **environment({}),
    )
    assert ran.returncode == 0, ran.stderr

    tables = json.loads(results.read_text())["tables"]
    assert len(tables) == len(TITLES)
    filled = document.read_text()
    for title, table in zip(TITLES.values(), tables, strict=True):
        assert table["title"].startswith(title)
        assert table["title"] in ran.stdout
        assert f"### {table['title']}" in filled
        assert table["rows"], title
        assert {row.get("failed", "0") for row in table["rows"]} == {"0"}, table["rows"]
    variants = {row["variant"] for row in tables[0]["rows"]}
    assert {"bare", "wrapped"} < variants
    assert filled.startswith("Before.\n")
    assert filled.endswith("After.\n")
    assert "old figures" not in filled
