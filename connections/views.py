"""Health and metrics of this process, over HTTP."""

import time
from collections import Counter
from collections.abc import Iterator

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from connections.conf import tunables
from connections.node.current import current_node
from connections.websocket.manager import Manager


def healthz(request: HttpRequest) -> JsonResponse:
    """200: the process works. 503, with `why`: it does not, and is to be started anew."""
    node = current_node()
    why = "" if node is None else node.why
    return JsonResponse({"works": not why, "why": why}, status=503 if why else 200)


def readyz(request: HttpRequest) -> JsonResponse:
    """200: it holds its lease, has committed within it, and admits. 503, with `why`: it does not."""
    node = current_node()
    why = "this process has had no WebSocket yet" if node is None else node.unready
    name = None if node is None else node.name
    return JsonResponse({"ready": not why, "node": name, "why": why}, status=503 if why else 200)


def _state_of(manager: Manager) -> str:
    if manager.closing:
        return "closing"
    return "open" if manager.accepted else "opening"


class _NodeCollector(Collector):
    """Gauges of this process as a node, read without a query. A process that is no node has none."""

    def collect(self) -> Iterator[Metric]:
        node = current_node()
        if node is None:
            return
        states = Counter(_state_of(manager) for manager in node.registry.all())
        managers = GaugeMetricFamily("connections_managers", "Managers of this node, by state.", labels=["state"])
        for state in ("opening", "open", "closing"):
            managers.add_metric([state], states[state])
        yield managers
        yield GaugeMetricFamily(
            "connections_node_capacity", "Sockets that this node takes.", node.tunables.node_capacity
        )
        yield GaugeMetricFamily(
            "connections_lease_age_seconds",
            "Since this node last renewed its lease.",
            time.monotonic() - node.lease.renewed_at,
        )
        yield GaugeMetricFamily("connections_lease_seconds", "How long a lease holds.", node.tunables.lease_seconds)
        yield GaugeMetricFamily("connections_node_ready", "Whether it holds its lease and admits.", not node.unready)
        yield GaugeMetricFamily(
            "connections_writer_backlog", "Admissions and releases that wait to be written.", node.writer.backlog()
        )
        yield GaugeMetricFamily(
            "connections_bus_connected", "Whether the bus could be reached last time.", node.bus.connected
        )


def register_gauges() -> None:
    """Add this process's gauges to Prometheus' registry. For AppConfig.ready; a second call does nothing."""
    if not _registered:
        REGISTRY.register(_NodeCollector())
        _registered.append(True)


_registered: list[bool] = []


def metrics(request: HttpRequest) -> HttpResponse:
    """Of this process alone. Not found unless CONNECTIONS_METRICS is on."""
    if not tunables().metrics:
        raise Http404("CONNECTIONS_METRICS is off")
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)
