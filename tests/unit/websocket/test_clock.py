"""The node's clock stands still while the process slept."""

import pytest

from connections.websocket import clock


def test_a_late_tick_takes_its_lateness_out_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    real = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: real[0])
    node = clock.NodeClock()
    assert node.tick(0.5)
    real[0] += 0.6
    assert node.tick(0.5), "a little late is no sleep"
    before = node.now()
    real[0] += 60.5
    assert not node.tick(0.5)
    assert node.now() - before == pytest.approx(0.5)
    real[0] += 0.5
    assert node.tick(0.5)


def test_a_tick_that_takes_time_itself_does_not_make_the_next_one_late(monkeypatch: pytest.MonkeyPatch) -> None:
    real = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: real[0])
    node = clock.NodeClock()
    assert node.until_tick() == 0
    node.tick(0.5)
    real[0] += 0.4
    assert node.until_tick() == pytest.approx(0.1)
    real[0] += 0.4
    assert node.until_tick() == 0
