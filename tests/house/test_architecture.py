"""docs/architecture.md against the code: every module has its line, and the four ways can be walked."""

import ast
import itertools
import re
from pathlib import Path

import pytest

from tests.support.processes import ROOT

TEXT = (ROOT / "docs" / "architecture.md").read_text()
ROOMS = dict(re.findall(r"^### `((?:connections|console)/[\w/]*)`\n(.*?)(?=\n##)", TEXT, re.MULTILINE | re.DOTALL))
WAYS = dict(
    re.findall(r"^### ([^\n]+)\n(1\. .*?)(?=\n###|\n## )", TEXT.split("## Four ways")[1], re.MULTILINE | re.DOTALL)
)
STEP = re.compile(r"^\d+\. `([\w/]+\.py)`: `([\w.]+)` (.+)$", re.MULTILINE)
MOST_FILES = 8
BY_ROW = re.compile(r"\brows?\b|\bcalled by\b|\bcalls it\b")  # a step that is reached another way than by an import


def packages() -> set[str]:
    """Rooms with modules of their own; the admin's and the commands' files are named for what they are about."""
    found = [path for top in ("connections", "console") for path in (ROOT / top).rglob("__init__.py")]
    folders = {str(path.parent.relative_to(ROOT)) + "/" for path in found}
    return {name for name in folders if not {"admin", "management", "migrations"} & set(Path(name).parts)}


def test_every_room_has_its_section() -> None:
    assert set(ROOMS) == packages()


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_lists_every_module_and_no_other(room: str) -> None:
    listed = re.findall(r"^\| `(\w+)` \|", ROOMS[room], re.MULTILINE)
    modules = {path.stem for path in (ROOT / room).glob("*.py")} - {"__init__"}
    assert sorted(listed) == sorted(modules)


def names_in(path: Path) -> set[str]:
    """What a module defines: functions, classes, their methods, and its constants."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = [child for child in node.body if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)]
            names |= {f"{node.name}.{method.name}" for method in methods}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def test_there_are_four_ways() -> None:
    assert list(WAYS) == ["A handshake", "A recovery", "A fence", "A chat message"]


@pytest.mark.parametrize("way", WAYS)
def test_a_way_leads_through_code_that_is_there(way: str) -> None:
    steps = STEP.findall(WAYS[way])
    assert len(steps) == len(WAYS[way].strip().splitlines()), "each line is a step"
    assert len({file for file, _, _ in steps}) <= MOST_FILES
    for file, name, _ in steps:
        assert name in names_in(ROOT / file), f"{file} defines no {name}"


def names_used_in(path: Path) -> set[str]:
    """What a module's code refers to, comments and texts aside: names, attributes, and what it imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("way", WAYS)
def test_each_step_leads_to_the_next(way: str) -> None:
    """The code of a step's file uses the name of the next step, unless that one says that a row or a caller leads to
    it.
    """
    steps = STEP.findall(WAYS[way])
    for (file, _, _), (following, name, words) in itertools.pairwise(steps):
        used = names_used_in(ROOT / file) | names_in(ROOT / file)
        assert BY_ROW.search(words) or set(name.split(".")) & used, f"{file} does not use {name} of {following}"
