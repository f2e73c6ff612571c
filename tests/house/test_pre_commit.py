"""The hooks of pre-commit run what `make check` runs, and editors wrap lines where ruff does."""

import re
import tomllib

from tests.support.processes import ROOT

HOOKS = (ROOT / ".pre-commit-config.yaml").read_text()


def makefile() -> str:
    """The Makefile, with continued lines joined."""
    return (ROOT / "Makefile").read_text().replace("\\\n", " ")


def commands_of_check() -> list[str]:
    """The commands of `make check` as a shell gets them: the Makefile's variables are replaced."""
    (recipe,) = re.findall(r"^check:[^\n]*\n((?:\t.+\n)+)", makefile(), re.MULTILINE)
    values = dict(re.findall(r"^(VENV|BIN|DEPLOYED) := (.+)$", makefile(), re.MULTILINE))
    commands = []
    for line in recipe.splitlines():
        command = line.strip().removeprefix("@")
        while variable := re.search(r"(?<!\$)\$\((\w+)\)", command):
            command = command.replace(variable[0], values[variable[1]])
        commands.append(" ".join(command.replace("$$", "$").split()))
    return commands


def test_each_command_of_make_check_is_a_hook_and_nothing_else_is() -> None:
    commands = commands_of_check()
    assert len(commands) > 5
    hooks = [" ".join(hook.split()) for hook in HOOKS.split("- id: ")[1:]]
    assert len(hooks) == len(commands)
    for hook, command in zip(hooks, commands, strict=True):
        assert f" {command} language: " in hook, command


def test_every_hook_is_local_and_takes_no_file_names() -> None:
    assert re.findall(r"repo: (\S+)", HOOKS) == ["local"]
    hooks = HOOKS.count("- id: ")
    for line in ("language: system", "always_run: true", "pass_filenames: false"):
        assert HOOKS.count(line) == hooks, line


def test_editors_wrap_lines_where_ruff_does() -> None:
    everywhere = (ROOT / ".editorconfig").read_text().split("[*]\n")[1].split("\n[")[0]
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    assert f"max_line_length = {ruff['line-length']}\n" in everywhere
