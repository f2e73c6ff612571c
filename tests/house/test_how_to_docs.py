"""What docs/how-to tells people to write works, and is what tests/dropin has written."""

import ast
import importlib
import inspect
import re
from typing import Any

from connections.admission import SoftLimitMiddleware
from tests.support.processes import ROOT


def blocks() -> list[ast.Module]:
    """The Python of add-to-your-project.md: settings, routes, URLs."""
    text = (ROOT / "docs" / "how-to" / "add-to-your-project.md").read_text()
    return [ast.parse(code) for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]


def values(tree: ast.AST) -> set[Any]:
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}


def theirs(name: str) -> set[Any]:
    return values(ast.parse((ROOT / "tests" / "dropin" / name).read_text()))


def test_the_settings_and_urls_are_those_of_the_project_in_the_tests() -> None:
    settings, _, urls = blocks()
    assert values(settings) - {"yourproject.asgi.application"} <= theirs("settings.py")
    assert values(urls) <= theirs("urls.py")


def test_the_project_in_the_tests_adds_nothing_that_is_not_told() -> None:
    source = (ROOT / "tests" / "dropin" / "settings.py").read_text()
    added = "".join(re.findall(r"# Added.*\n((?:(?!\s*# Theirs)\s+\S.*\n|CONNECTIONS.*\n)+)", source))
    text = (ROOT / "docs" / "how-to" / "add-to-your-project.md").read_text()
    words = re.findall(r'"([^"]+)"', added)
    assert {"connections", "console", "django_htmx.middleware.HtmxMiddleware", "transaction_mode"} <= set(words)
    assert [word for word in words if f'"{word}"' not in text] == []


def test_the_routes_import_what_exists_and_pass_what_is_taken() -> None:
    routes = blocks()[1]
    for node in ast.walk(routes):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            assert all(hasattr(module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "SoftLimitMiddleware":
            inspect.signature(SoftLimitMiddleware).bind(None, **{keyword.arg or "": None for keyword in node.keywords})


def test_every_event_of_observe_is_told() -> None:
    engine = "".join(path.read_text() for path in (ROOT / "connections").rglob("*.py"))
    text = (ROOT / "docs" / "how-to" / "watch-before-you-enforce.md").read_text()
    assert set(re.findall(r'"(would_\w+)", ?', engine)) == set(re.findall(r"^\| `(would_\w+)`", text, re.MULTILINE))
