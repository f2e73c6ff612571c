"""docs/settings.md against the code: the same variables, with the same defaults."""

import ast
import re

from connections.conf import Tunables, read
from tests.support.processes import ROOT

EMPTY = "empty"


def rows(heading: str) -> dict[str, str]:
    """{variable: its default as written} of the table under a heading."""
    text = (ROOT / "docs" / "settings.md").read_text()
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| ([A-Z_]+) \| ([^|]*?) \|", section, re.MULTILINE))


def test_every_tunable_is_listed_and_nothing_else() -> None:
    listed = {name.removeprefix("CONNECTIONS_").lower() for name in rows("The engine")}
    # A name that the code doesn't know would be ignored, so it is asked for each.
    derived = {"admission_seconds", "grace_seconds"}
    assert listed == set(Tunables.__dataclass_fields__) - derived


def test_each_default_is_the_one_in_the_code() -> None:
    written = {name: "" if cell == EMPTY else cell.strip("`") for name, cell in rows("The engine").items()}
    assert len(written) > 15
    # What is written is read as it would be from the environment; the capacity depends on the machine otherwise.
    assert read(written) == Tunables()


def test_every_line_says_why_its_number() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    lines = re.findall(r"^\| CONNECTIONS_.*$", text, re.MULTILINE)
    assert all(len(cells := line.strip("| ").split(" | ")) == 4 and all(cells) for line in lines)


def variables_of_the_site() -> dict[str, str | None]:
    """{variable: default given in the call} of what console.settings reads from the environment."""
    found: dict[str, str | None] = {}
    for node in ast.walk(ast.parse((ROOT / "console" / "settings.py").read_text())):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        function, name = ast.unparse(node.func), node.args[0]
        if function in {"os.environ.get", "_switch", "_words"} and isinstance(name, ast.Constant):
            defaults = [
                k.value.value for k in node.keywords if k.arg == "default" and isinstance(k.value, ast.Constant)
            ]
            found[str(name.value)] = str(defaults[0]) if defaults else None
    return found


def test_every_variable_of_the_site_is_listed_and_nothing_else() -> None:
    assert rows("The site").keys() == variables_of_the_site().keys()


def test_defaults_that_the_site_gives_in_words_are_the_written_ones() -> None:
    written = rows("The site")
    given = {name: default for name, default in variables_of_the_site().items() if default is not None}
    assert given
    for name, default in given.items():
        assert written[name] == f"`{default}`"
