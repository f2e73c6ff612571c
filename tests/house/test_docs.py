"""The documents name what exists: links, make targets, commands, modules, log-ins, and the code in them."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import get_commands

from connections.admission import SoftLimitMiddleware
from connections.policy.states import CloseReason, Refused, Step
from console.demo.people import PASSWORD, SHOWN
from tests.support.processes import ROOT

README = ROOT / "README.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^()\s]+)\)")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """A document without its code blocks."""
    return re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """The fragments that the headings of a document answer to, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    for link in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, fragment = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not fragment or fragment in anchors(target), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_make_target_and_command_exists(path: Path) -> None:
    text = path.read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE)) <= targets
    assert set(re.findall(r"manage\.py ([a-z_]+)", text)) <= set(get_commands())


def test_the_readme_shows_the_two_commands() -> None:
    text = README.read_text()
    assert re.search(r"^make run\b", text, re.MULTILINE)
    assert re.search(r"^make test\b", text, re.MULTILINE)


def test_the_readme_has_the_log_ins_that_the_demo_prints() -> None:
    text = README.read_text()
    assert f"password `{PASSWORD}`" in text
    assert set(re.findall(r"^\| `(\w+)` \| `/", text, re.MULTILINE)) == set(SHOWN)


def example() -> Iterator[ast.AST]:
    (code,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    return ast.walk(ast.parse(code))


def test_the_imports_of_the_readme_work() -> None:
    imports = [node for node in example() if isinstance(node, ast.ImportFrom)]
    assert imports
    for node in imports:
        module = importlib.import_module(node.module or "")
        assert all(hasattr(module, alias.name) for alias in node.names)


def test_the_middleware_takes_what_the_readme_gives_it() -> None:
    calls = [
        node
        for node in example()
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "SoftLimitMiddleware"
    ]
    assert calls
    for call in calls:
        options = {keyword.arg or "": None for keyword in call.keywords}
        inspect.signature(SoftLimitMiddleware).bind(*call.args, **options)


def test_the_lifecycle_has_every_ending_refusal_and_step() -> None:
    text = (ROOT / "docs" / "lifecycle.md").read_text()
    endings, refusals, run = (
        text.split(f"## {heading}\n")[1].split("\n## ")[0]
        for heading in ("Every ending", "Refused handshakes", "A run")
    )
    assert [reason for reason in CloseReason if f"`{reason}`" not in endings] == []
    assert [refused for refused in Refused if f"`{refused}`" not in refusals] == []
    assert re.findall(r"^\| `(\w+)` \|", run, re.MULTILINE)[: len(Step)] == list(Step)


def test_a_code_in_the_lifecycle_is_the_one_that_is_sent() -> None:
    from connections.policy.states import CLOSING_FRAMES

    text = (ROOT / "docs" / "lifecycle.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    sent = [(row[1], row[2]) for row in rows if len(row) == 5 and re.match(r"4\d{3}", row[1])]
    refused = [(row[1], row[0]) for row in rows if len(row) == 3 and re.match(r"4\d{3}", row[1])]
    assert len(sent) > 10
    assert len(refused) > 5
    for code, cell in sent + refused:
        reason = re.findall(r"`(\w+)`", cell)[0]
        assert CLOSING_FRAMES[reason].code == int(code[:4]), reason


def test_every_decision_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    decisions = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md"))
    assert re.findall(r"decisions/([\w-]+\.md)", index) == decisions
