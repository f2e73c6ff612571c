"""System checks that refuse to start on intervals that contradict each other."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured

from connections.conf import Tunables, tunables


def faults(values: Tunables) -> list[tuple[str, str]]:
    """(id, sentence) for each inconsistency. Pure, so that tests can ask it anything."""
    found: list[tuple[str, str]] = []

    def want(condition: bool, number: int, sentence: str) -> None:
        if not condition:
            found.append((f"connections.E{number:03}", sentence))

    beat, lease = values.beat_seconds, values.lease_seconds
    want(values.soft_limit >= 1, 1, "CONNECTIONS_SOFT_LIMIT must be at least 1.")
    want(values.burst >= 1, 2, "CONNECTIONS_BURST must be at least 1, or a newcomer has no room.")
    positive = ("heartbeat", "pong", "probe", "stuck", "handshake", "beat", "lease", "send", "reconcile")
    for name in positive:
        field = f"{name}_seconds"
        want(getattr(values, field) > 0, 3, f"CONNECTIONS_{field.upper()} must be above 0.")
    want(lease >= 4 * beat, 4, f"CONNECTIONS_LEASE_SECONDS ({lease:g}) must be at least 4 beats ({4 * beat:g}).")
    want(
        lease >= 2 * (beat + 0.5),
        5,
        f"CONNECTIONS_LEASE_SECONDS ({lease:g}) must be at least twice a beat and half a second "
        f"({2 * (beat + 0.5):g}).",
    )
    want(values.sweep_seconds >= 0, 6, "CONNECTIONS_SWEEP_SECONDS must be 0 (paused) or above.")
    want(values.reconcile_seconds >= beat, 7, "CONNECTIONS_RECONCILE_SECONDS must be at least a beat.")
    want(values.queue_frames >= 1 and values.queue_bytes >= 1, 8, "CONNECTIONS_QUEUE_* must be at least 1.")
    want(values.node_capacity >= 1, 9, "CONNECTIONS_NODE_CAPACITY must be at least 1.")
    want(values.history_days > 0, 10, "CONNECTIONS_HISTORY_DAYS must be above 0.")
    return found


def check_tunables(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    try:
        values = tunables()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="connections.E000")]
    return [Error(sentence, id=number) for number, sentence in faults(values)]
