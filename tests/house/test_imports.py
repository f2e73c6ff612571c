"""Importing a module of the engine defines things and does nothing: no singleton is made, nothing is subscribed."""

import ast
from collections.abc import Iterable, Iterator

import pytest

from tests.support.processes import ROOT

ENGINE = ROOT / "connections"
MODULES = sorted(path for path in ENGINE.rglob("*.py") if "migrations" not in path.parts)
SUBSCRIBES = {"subscribe", "connect", "register", "start", "on_node_start"}


def statements_at_import(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported, those in loops and conditions among them."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        statement = waiting.pop()
        yield statement
        if isinstance(statement, ast.If | ast.For | ast.With | ast.Try):
            waiting += [child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.stmt)]


def singletons_of(tree: ast.Module, classes: set[str]) -> list[str]:
    """Names that importing binds to an object of one of our own classes."""
    found = []
    for statement in statements_at_import(tree):
        if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Call):
            called = statement.value.func
            if isinstance(called, ast.Name) and called.id in classes:
                found.append(ast.unparse(statement)[:80])
    return found


def subscriptions_of(tree: ast.Module) -> list[str]:
    found = []
    for statement in statements_at_import(tree):
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            name = statement.value.func.attr if isinstance(statement.value.func, ast.Attribute) else ""
            if name in SUBSCRIBES:
                found.append(ast.unparse(statement)[:80])
    return found


def stateful_classes(trees: Iterable[ast.Module]) -> set[str]:
    """Our classes that hold state of a process: those with an `__init__` of their own."""
    return {
        node.name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(isinstance(child, ast.FunctionDef) and child.name == "__init__" for child in node.body)
    }


@pytest.mark.parametrize("source", ["hub = Hub()", "if True:\n    runner: Runner = Runner(hub)"])
def test_a_singleton_is_found(source: str) -> None:
    assert singletons_of(ast.parse(source), {"Hub", "Runner"})


def test_a_subscription_is_found() -> None:
    assert subscriptions_of(ast.parse("bus.subscribe('work', print)"))


def test_importing_makes_no_singleton_and_subscribes_nothing() -> None:
    trees = {str(path.relative_to(ENGINE)): ast.parse(path.read_text()) for path in MODULES}
    classes = stateful_classes(trees.values())
    done = {name: singletons_of(tree, classes) + subscriptions_of(tree) for name, tree in trees.items()}
    assert {name: found for name, found in done.items() if found} == {}
