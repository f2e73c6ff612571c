"""The chat's threads: what a call returns or raises comes back, and one that hangs does not hold up the process."""

import subprocess
import sys
import threading

import pytest

from connections.chat.daemon_pool import DaemonPool
from tests.support.processes import ROOT

HANGS = """
import threading
from connections.chat.daemon_pool import DaemonPool

DaemonPool("test", 2).submit(threading.Event().wait)
"""


def test_a_call_returns_raises_or_is_cancelled() -> None:
    pool, hold = DaemonPool("test", 1), threading.Event()
    held = pool.submit(hold.wait, 10)
    cancelled, raised, answered = pool.submit(hold.wait), pool.submit(int, "x"), pool.submit(max, 1, 2)
    assert cancelled.cancel()
    hold.set()
    assert held.result(5)
    assert answered.result(5) == 2
    with pytest.raises(ValueError, match="invalid literal"):
        raised.result(5)


def test_a_call_that_hangs_does_not_hold_up_the_exit() -> None:
    assert subprocess.run([sys.executable, "-c", HANGS], cwd=ROOT, timeout=30, check=False).returncode == 0
