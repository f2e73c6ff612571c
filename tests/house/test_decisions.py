"""The decisions in docs/decisions have one format, and every link to one of them leads to a file."""

import re
from pathlib import Path

import pytest

from tests.support.processes import ROOT

FOLDER = ROOT / "docs" / "decisions"
DECISIONS = sorted(FOLDER.glob("*.md"))
DOCUMENTS = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]
HEADINGS = ["Context", "Decision", "Consequences"]

DATE = r"20\d\d-\d\d-\d\d"
OTHER = r"(?:\d{4}|\[\d{4}\]\([\w-]+\.md\))"
STATUS = re.compile(rf"(?:accepted|(?:superseded|changed) by {OTHER}(?: and {OTHER})*), {DATE}")

every_decision = pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)


def status_of(path: Path) -> str:
    (status,) = re.findall(r"^Status: (.+)$", path.read_text(), re.MULTILINE)
    return str(status)


def test_numbers_are_given_once_and_without_a_gap() -> None:
    numbers = [int(path.name[:4]) for path in DECISIONS]
    assert numbers
    assert numbers == list(range(1, len(numbers) + 1))


@every_decision
def test_the_title_has_the_number_of_the_file(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert re.fullmatch(rf"# {path.name[:4]}: \S.*", first), first


@every_decision
def test_the_status_follows_the_title_and_is_one_of_the_allowed(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[1] == ""
    assert lines[2] == f"Status: {status_of(path)}"
    assert STATUS.fullmatch(status_of(path)), status_of(path)


@every_decision
def test_the_three_headings_stand_in_order_and_have_text(path: Path) -> None:
    _, *sections = re.split(r"^## ", path.read_text(), flags=re.MULTILINE)
    assert [section.splitlines()[0] for section in sections] == HEADINGS
    assert all(section.partition("\n")[2].strip() for section in sections)


@every_decision
def test_a_decision_that_changes_or_supersedes_another_exists_and_is_later(path: Path) -> None:
    others = set(re.findall(r"\b\d{4}\b(?!-)", status_of(path)))
    assert others <= {other.name[:4] for other in DECISIONS if other > path}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_decision_leads_to_its_file(path: Path) -> None:
    for text, target in re.findall(r"\[([^\]]*)\]\(([^()\s#]+)[^()\s]*\)", path.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        file = (path.parent / target).resolve()
        number = re.match(r"\d{4}-", file.name)
        if file.parent != FOLDER or number is None:
            continue
        assert file.is_file(), target
        if named := re.search(r"\d+", text):
            assert int(named[0]) == int(number[0][:4]), f"{text} leads to {target}"
