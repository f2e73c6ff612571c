"""The rooms: each says what it is for, no file and no function tires its reader, and tests stand on their own."""

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.support.processes import ROOT

FILE_LINES = 300
FUNCTION_LINES = 40
SOURCES = ("connections", "console", "benchmarks")


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def sources(*folders: str, ending: str = ".py") -> list[Path]:
    """The source files below these folders; migrations are Django's."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob(f"*{ending}"))]
    return [path for path in paths if not {"migrations", "vendor", "artifacts", "results"} & set(path.parts)]


def functions_over(tree: ast.Module, lines: int) -> list[str]:
    return [
        f"{node.name}: {length} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > lines
    ]


def test_no_file_is_over_300_lines() -> None:
    files = sources(*SOURCES, "tests") + sources("static/chat", "console/static/console", ending=".js")
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > FILE_LINES} == {}


def test_no_function_is_over_40_lines() -> None:
    paths = sources(*SOURCES, "tests")
    found = {str(path.relative_to(ROOT)): functions_over(parsed(path), FUNCTION_LINES) for path in paths}
    assert {name: functions for name, functions in found.items() if functions} == {}


def test_every_package_says_in_one_sentence_what_is_in_it() -> None:
    packages = [path for path in sources(*SOURCES, "tests") if path.name == "__init__.py"]
    silent = [str(path.relative_to(ROOT)) for path in packages if not ast.get_docstring(parsed(path))]
    assert silent == []


@pytest.mark.parametrize("tier", ["house", "unit", "integration", "property", "acceptance", "browser"])
def test_no_test_module_imports_another(tier: str) -> None:
    imports = {
        str(path.relative_to(ROOT)): module
        for path in sources(f"tests/{tier}", "tests/support")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ImportFrom) and (module := node.module or "").split(".")[-1].startswith("test_")
    }
    assert imports == {}
