"""docs/operations.md against the code: the runbook has every cause, the numbers are in force, the example works."""

import re
from typing import Any

from channels_redis.core import RedisChannelLayer

from connections import bus
from connections.conf import Tunables
from connections.database.postgres import DEADLINE_BEATS, own_options
from connections.policy.states import CauseCode
from console import settings
from console.demo.parent_watch import DRAIN_SECONDS
from tests.support.processes import ROOT

TEXT = (ROOT / "docs" / "operations.md").read_text()


def sentinel_host() -> dict[str, Any]:
    (code,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    found: dict[str, Any] = {}
    exec(code, found)  # noqa: S102  # our own documentation
    (host,) = found["CHANNEL_LAYERS"]["default"]["CONFIG"]["hosts"]
    assert isinstance(host, dict)
    return host


def test_the_runbook_has_every_cause() -> None:
    runbook = TEXT.split("## Runbook")[1]
    assert set(re.findall(r"^\| `(\w+)` \|", runbook, re.MULTILINE)) == set(CauseCode)


def timeouts(options: dict[str, Any]) -> dict[str, float]:
    """In seconds, of those that PostgreSQL and the network keep."""
    found = {name: int(value) / 1000 for name, value in re.findall(r"-c (\w+)=(\d+)", options["options"])}
    return found | {"tcp_user_timeout": options["tcp_user_timeout"] / 1000}


def test_the_timeouts_are_those_that_are_set() -> None:
    beat = Tunables().beat_seconds
    engine = timeouts(own_options({}, beat, beat))
    pages = timeouts(settings.database("postgres://name@host/base")["OPTIONS"])
    assert engine.keys() == pages.keys()
    for name, value in engine.items():
        assert re.search(rf"^\| `{name}`[^|]*\| {value:g} s[^|]*\| {pages[name]:g} s \|", TEXT, re.MULTILINE), name
    assert f"the node cuts the connection | {beat * DEADLINE_BEATS:g} s |" in TEXT


def test_the_sentinel_example_is_taken_and_leaves_time_for_a_dead_sentinel() -> None:
    host = sentinel_host()
    pool: Any = RedisChannelLayer(hosts=[host]).create_pool(0)
    assert pool.service_name == "bus"
    for sentinel in pool.sentinel_manager.sentinels:
        kwargs = sentinel.connection_pool.connection_kwargs
        assert kwargs["retry"]._retries == 0
        assert kwargs["socket_timeout"] + kwargs["socket_connect_timeout"] < bus.CALL_SECONDS
    assert pool.connection_kwargs["socket_timeout"] > RedisChannelLayer.brpop_timeout


def test_what_it_says_of_stopping_is_what_the_engine_needs() -> None:
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)", TEXT, re.MULTILINE)
    assert int(stop) > DRAIN_SECONDS
    (read,) = re.findall(r"proxy_read_timeout (\d+)s", TEXT)
    assert int(read) > 2 * Tunables().heartbeat_seconds
