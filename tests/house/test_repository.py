"""Promises about the repository itself."""

import hashlib
import re

import pytest

from tests.support.processes import ROOT

LOCKS = ["requirements.lock", "requirements-dev.lock"]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_place_and_hashes_everything(name: str) -> None:
    lock = (ROOT / name).read_text()
    assert not re.search(r"https?:|file:|index-url|find-links|@ |^/", lock, re.MULTILINE)
    packages = re.findall(r"^[a-z0-9].*", lock, re.MULTILINE)
    assert packages
    assert all(re.search(r"==\S+.*\\$", package) for package in packages)


def test_the_development_lock_holds_the_runtime_lock() -> None:
    runtime, everything = ((ROOT / name).read_text() for name in LOCKS)
    pins = re.compile(r"^[a-z0-9][^ ]*==[^ ]+", re.MULTILINE)
    assert set(pins.findall(runtime)) <= set(pins.findall(everything))


def test_vendored_files_are_the_ones_on_record() -> None:
    vendor = ROOT / "console" / "static" / "vendor"
    rows = re.findall(r"\| `([^`]+)` \| `([0-9a-f]{64})` \|", (vendor / "README.md").read_text())
    assert dict(rows) == {
        str(path.relative_to(vendor)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in vendor.rglob("*")
        if path.is_file() and path.suffix in {".css", ".js", ".mjs"}
    }


def test_the_engine_asks_only_the_database_what_time_it_is() -> None:
    """So that a node whose own clock is wrong harms nobody: leases, fences and orders are on one clock."""
    engine = ROOT / "connections"
    asks = re.compile(r"\b(timezone\.now|datetime\.now|datetime\.utcnow|time\.time)\(")
    found = {
        str(path.relative_to(engine))
        for path in engine.rglob("*.py")
        if "chat" not in path.relative_to(engine).parts and asks.search(path.read_text())
    }
    # SQLite has no other machine, and a run that is shown while it goes on says for how long.
    assert found == {"database/connection.py", "models/runs.py"}
