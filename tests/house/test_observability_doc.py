"""docs/observability.md, the alert rules and the dashboard against the code: the same events, the same metrics."""

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from connections import views
from connections.conf import Tunables
from connections.websocket.clock import NodeClock
from tests.support.processes import ROOT

DOCS = ROOT / "docs"
TEXT = (DOCS / "observability.md").read_text()
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def calls(path: Path) -> Iterator[tuple[str, str]]:
    """(event, level) of each line that a file logs; also where the logger's method is handed on."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        level, *rest = [node.func, *node.args]
        if ast.unparse(node.func) == "partial":
            level, *rest = node.args
        if not ast.unparse(level).startswith("logger.") or not rest:
            continue
        names = [n.value for n in ast.walk(rest[0]) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        for name in names:
            if re.fullmatch(r"[a-z]+(_[a-z]+)*", name):
                yield name, ast.unparse(level).removeprefix("logger.").replace("exception", "error")


def events() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in [*(ROOT / "connections").rglob("*.py"), ROOT / "console" / "errors.py"]:
        for name, level in calls(path):
            found.setdefault(name, set()).add(level)
    # Handed to functions of ours, which log them.
    found |= {name: {"info"} for name in ("manager_closing", "manager_freed")}
    return found


def test_every_event_is_listed_with_its_level_and_nothing_else() -> None:
    tables = TEXT.split("## Events")[1].split("## Metrics")[0]
    listed: dict[str, set[str]] = {}
    for names, levels in re.findall(r"^\| ((?:`\w+` ?)+)\| (\w+(?: or \w+)?) \|", tables, re.MULTILINE):
        for name in re.findall(r"\w+", names):
            listed[name] = set(levels.split(" or "))
    written = events()
    assert listed.keys() == written.keys()
    assert all(levels <= listed[name] for name, levels in written.items())


class ANode:
    """What /metrics asks of a node."""

    def __init__(self) -> None:
        self.registry: set[object] = set()
        self.tunables = Tunables()
        self.lease = SimpleNamespace(renewed_at=NodeClock().now())
        self.bus = SimpleNamespace(connected=True)
        self.unready = ""
        self.writer = self

    def all(self) -> list[object]:
        return []

    def backlog(self) -> int:
        return 0


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    node = ANode()
    monkeypatch.setattr(node, "registry", node)
    monkeypatch.setattr(views, "current_node", lambda: node)
    found = set()
    for family in REGISTRY.collect():
        if family.name.startswith("connections_"):
            found.add(family.name + ("_total" if family.type == "counter" else ""))
    return found


def test_every_metric_is_listed_and_nothing_else(metrics: set[str]) -> None:
    assert set(re.findall(r"^\| `(connections_\w+)` \|", TEXT, re.MULTILINE)) == metrics


def test_alerts_and_dashboard_ask_for_metrics_that_there_are(metrics: set[str]) -> None:
    dashboard = json.loads((DOCS / "monitoring" / "grafana.json").read_text())
    asked = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    rules = (DOCS / "monitoring" / "alerts.yml").read_text()
    for text in (asked, rules):
        names = {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"\bconnections_\w+", text)}
        assert names <= metrics
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"\bconnections_\w+", asked)}
    assert shown == metrics, "each has its place on the dashboard"


def test_promtool_takes_the_alert_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: it comes with Debian's prometheus package")
    done = subprocess.run([promtool, "check", "rules", str(DOCS / "monitoring" / "alerts.yml")], capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
