"""The policy and its tests need no Django: they pass in a process where an import of Django fails."""

import subprocess
import sys

import pytest

from tests.support.processes import ROOT

# `--noconftest` and no configuration file, since tests/conftest.py and pyproject.toml need Django.
RUN = """
import sys


class NoDjango:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"django", "channels", "asgiref"}:
            raise ImportError(f"{name} is not for the policy")


sys.meta_path.insert(0, NoDjango())
import pytest

sys.exit(pytest.main(sys.argv[1:]))
"""
ALONE = ("-p", "no:django", "-p", "no:cacheprovider", "--noconftest", "-c", "/dev/null", "--rootdir", str(ROOT))
IMPORTS = ("--import-mode=importlib", "-o", f"pythonpath={ROOT}")


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", RUN, *ALONE, *IMPORTS, "-q", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_the_policy_passes_its_tests_where_django_can_not_be_imported() -> None:
    finished = run("tests/unit/policy")
    assert finished.returncode == pytest.ExitCode.OK, finished.stdout + finished.stderr
    assert " passed" in finished.stdout


def test_a_test_that_needs_django_fails_in_that_process() -> None:
    finished = run("tests/unit/test_conf.py")
    assert finished.returncode == pytest.ExitCode.INTERRUPTED
    assert "is not for the policy" in finished.stdout
