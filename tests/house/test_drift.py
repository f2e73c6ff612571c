"""Names in the documents exist in the code: files, modules, settings, functions, events, and what ends a socket."""

import functools
import re
from pathlib import Path

import pytest

from connections.conf import ENVIRONMENT
from tests.support.processes import ROOT

DOCUMENTS = sorted(
    path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")] if path.name != "CHANGELOG.md"
)  # the changelog names what was renamed, too
SPAN = re.compile(r"`([^`\n]+)`")
PACKAGES = ("connections", "console", "tests", "benchmarks", "static", "templates", "scripts")
FILE = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:/[\w.-]+)*/?")
MODULE = re.compile(r"(?:connections|console)(?:\.[a-z_]\w*)+")
SUFFIXED = re.compile(r"[\w./-]+\.(?:py|js|html|css|md|toml|yml|yaml|sh)")  # also without its folders
NAME = re.compile(r"(?:[A-Za-z]\w*\.)*([a-z]+_\w+|[A-Z][a-z]+[A-Z]\w+)(?:\(.*\))?")  # snake_case or CamelCase
# Settings of PostgreSQL, nginx, Caddy and redis-py.
OTHERS = {
    "max_connections", "pg_stat_statements", "sentinel_kwargs", "stream_close_delay", "worker_connections",
    "worker_shutdown_timeout",
}  # fmt: skip
PATTERNS = {"NNNN-title.md", "name.html", "_name.html"}  # of names
MADE = {"benchmarks/results/", "tests/artifacts/"}  # by commands, and ignored by git


def spans(path: Path) -> list[str]:
    return SPAN.findall(path.read_text())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_is_named_exists(path: Path) -> None:
    named = {span for span in spans(path) if FILE.fullmatch(span) and "/" in span}
    assert [name for name in sorted(named - MADE) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_is_named_without_its_folders_exists(path: Path) -> None:
    named = {span for span in spans(path) if SUFFIXED.fullmatch(span)}
    ends = [f"/{file.relative_to(ROOT)}" for file in files()]
    assert [name for name in sorted(named - PATTERNS) if not any(end.endswith(f"/{name}") for end in ends)] == []


@functools.cache
def files() -> list[Path]:
    """Without asking git, which may refuse a clone that belongs to somebody else."""
    folders = [*PACKAGES, "docs", ".ci"]
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [*found, *(path for path in ROOT.glob("*") if path.is_file())]


@functools.cache
def words_of_the_code() -> set[str]:
    code = [file for file in files() if file.suffix not in {".md", ".lock", ".png", ".pyc", ".woff2", ".sqlite3"}]
    return {word for file in code for word in re.findall(r"\w+", file.read_text(errors="ignore"))}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_name_in_code_marks_is_in_the_code(path: Path) -> None:
    found = [NAME.fullmatch(span) for span in spans(path)]
    named = {match[1] for match in found if match}
    assert sorted(named - words_of_the_code() - OTHERS) == []


def exists(dotted: str) -> bool:
    """Whether a dotted name is a module, or a name that its module defines or imports."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        base = ROOT.joinpath(*parts[:count])
        module = base.with_suffix(".py") if base.with_suffix(".py").is_file() else base / "__init__.py"
        if module.is_file():
            rest = parts[count:]
            return not rest or re.search(rf"\b{rest[0]}\b", module.read_text()) is not None
    return False


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_that_is_named_exists(path: Path) -> None:
    named = {span.split("(")[0] for span in spans(path) if MODULE.fullmatch(span.split("(")[0])}
    permissions = {name for name in named if re.fullmatch(r"connections\.(view|change|recover|reset|drain)_\w+", name)}
    assert [name for name in sorted(named - permissions) if not exists(name)] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_that_is_named_exists(path: Path) -> None:
    named = set(re.findall(r"\bCONNECTIONS_([A-Z_]*[A-Z])\b", path.read_text()))
    known = [name.upper() for name in ENVIRONMENT]
    assert [name for name in sorted(named) if not any(each.startswith(name) for each in known)] == []


def test_the_lifecycle_names_modules_that_end_sockets() -> None:
    table = (ROOT / "docs" / "lifecycle.md").read_text().split("## Every ending")[1].split("## Refused")[0]
    cells = [row.rstrip(" |").rsplit("|", 1)[1] for row in re.findall(r"^\| .+\|$", table, re.MULTILINE)[2:]]
    named = {name for cell in cells for name in SPAN.findall(cell)}
    modules = {path.stem for path in (ROOT / "connections").rglob("*.py")}
    assert named
    assert named <= modules, named - modules
