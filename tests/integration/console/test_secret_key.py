"""console/secret_key.py"""

import multiprocessing
import stat
from pathlib import Path

from console.secret_key import checkout_key


def test_processes_that_start_at_once_make_one_key(tmp_path: Path) -> None:
    path = tmp_path / ".secret_key"
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        keys = pool.map(checkout_key, [path] * 40, chunksize=1)
    assert len(set(keys)) == 1
    assert [file.name for file in tmp_path.iterdir()] == [".secret_key"]


def test_a_process_that_loses_the_race_takes_the_other_processs_key(tmp_path: Path) -> None:
    """The other process links its key after this one has looked for a key and before it links its own."""
    path = tmp_path / ".secret_key"

    class Late(type(path)):  # type: ignore[misc]
        looked = False

        def read_text(self, *arguments: object, **options: object) -> str:
            if not Late.looked:
                Late.looked = True
                path.write_text("the winner's")
                raise FileNotFoundError
            return path.read_text()

    assert checkout_key(Late(path)) == "the winner's"
    assert [file.name for file in tmp_path.iterdir()] == [".secret_key"]


def test_the_key_is_for_the_owner_only_and_stays(tmp_path: Path) -> None:
    path = tmp_path / ".secret_key"
    key = checkout_key(path)
    assert len(key) >= 50
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert checkout_key(path) == key
