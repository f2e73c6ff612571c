"""Settings: how they are read, and on which values the server refuses to start."""

from dataclasses import replace

import pytest
from django.core.exceptions import ImproperlyConfigured

from connections.checks import faults
from connections.conf import Rate, Tunables, read


def test_the_defaults_are_consistent_and_those_of_the_contract() -> None:
    values = read({})
    assert faults(values) == []
    assert (values.soft_limit, values.burst, values.lease_seconds, values.beat_seconds) == (20, 5, 10.0, 2.0)
    assert values.connect_rate == Rate(30, 10.0)


def test_settings_are_read_from_the_environment_with_fractions_of_seconds() -> None:
    values = read(
        {"CONNECTIONS_BEAT_SECONDS": "0.25", "CONNECTIONS_CONNECT_RATE": "5/2s", "CONNECTIONS_ENFORCE": "observe"}
    )
    assert values.beat_seconds == 0.25
    assert values.connect_rate == Rate(5, 2.0)
    assert values.observe


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SOFT_LIMIT", "many"),
        ("CONNECT_RATE", "0/10s"),
        ("CONNECT_RATE", "fast"),
        ("ENFORCE", "maybe"),
        ("TRUSTED_PROXIES", "10.0.0.300"),
    ],
)
def test_a_setting_that_cannot_be_parsed_is_named(name: str, text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"CONNECTIONS_{name}"):
        read({f"CONNECTIONS_{name}": text})


@pytest.mark.parametrize(
    ("change", "number"),
    [
        ({"soft_limit": 0}, "E001"),
        ({"burst": 0}, "E002"),
        ({"heartbeat_seconds": 0.0}, "E003"),
        ({"lease_seconds": 7.9}, "E004"),
        ({"beat_seconds": 0.1, "lease_seconds": 1.0}, "E005"),
        ({"sweep_seconds": -1.0}, "E006"),
        ({"reconcile_seconds": 1.0}, "E007"),
        ({"queue_frames": 0}, "E008"),
    ],
)
def test_intervals_that_contradict_each_other_are_refused(change: dict[str, float], number: str) -> None:
    found = faults(replace(Tunables(), **change))  # type: ignore[arg-type]
    assert f"connections.{number}" in [fault for fault, _ in found]
