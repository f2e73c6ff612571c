"""Every tunable of the engine, read once from the environment, each with the reason for its default.

A project may set `CONNECTIONS = {"soft_limit": 5, …}` in its settings; the environment wins over it.
"""

import os
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket's shape: `burst` tokens, refilled over `seconds`."""

    burst: int
    seconds: float

    @property
    def per_second(self) -> float:
        return self.burst / self.seconds

    @classmethod
    def parse(cls, text: str) -> "Rate":
        count, _, window = text.partition("/")
        seconds = float(window.strip().removesuffix("s") or 1)
        if int(count) < 1 or seconds <= 0:
            raise ValueError("both numbers must be positive")
        return cls(int(count), seconds)


def _file_limit_capacity() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 20_000
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 20_000
    return max(1, min(20_000, soft - 200))  # 200 descriptors for the database, files and HTTP


@dataclass(frozen=True, slots=True)
class Tunables:
    """Seconds are floats, so that tests run fast. The environment's name is CONNECTIONS_ and the field's."""

    soft_limit: int = 20  # what the product in the incident allowed
    burst: int = 5  # room for a reload of every second tab while cleanup works
    heartbeat_seconds: float = 25.0  # below the 30 s at which proxies cut silent sockets; Centrifugo's too
    pong_seconds: float = 10.0  # a phone waking its radio needs several seconds
    probe_seconds: float = 5.0  # shorter: somebody in support is waiting for it
    stuck_seconds: float = 60.0  # longer than any handler of ours may take
    handshake_seconds: float = 10.0
    beat_seconds: float = 2.0
    lease_seconds: float = 10.0  # five beats: two may be lost, and a slow third
    node_name: str = ""
    send_seconds: float = 10.0
    enforce: str = "on"
    queue_frames: int = 1024
    queue_bytes: int = 8 * 1024 * 1024
    sweep_seconds: float = 5.0
    reconcile_seconds: float = 30.0
    connect_rate: Rate = Rate(30, 10.0)
    node_capacity: int = 20_000
    history_days: float = 30.0
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    metrics: bool = False  # /metrics asks nobody who they are

    # Not in the environment: derived, or nothing a deployment has a reason to change.
    admission_seconds: float = 4.0  # a page shows "connecting" that long before people reload it
    grace_seconds: float = 8.0  # for an application to end after its disconnect; Daphne itself cancels after 10

    @property
    def observe(self) -> bool:
        return self.enforce == "observe"

    @property
    def late_seconds(self) -> float:
        """After which a node that has not renewed is late."""
        return max(1.5 * self.beat_seconds, self.beat_seconds + 0.5)

    @property
    def tick_seconds(self) -> float:
        """The period of the one timer: four a beat, so a deadline is met to a quarter of one."""
        return self.beat_seconds / 4


ENVIRONMENT = tuple(
    field.name for field in fields(Tunables) if field.name not in ("admission_seconds", "grace_seconds")
)


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def _parse(name: str, text: str) -> Any:
    if name == "connect_rate":
        return Rate.parse(text)
    if name == "trusted_proxies":
        return _networks(text)
    if name == "enforce":
        if text not in ("on", "observe"):
            raise ValueError("must be 'on' or 'observe'")
        return text
    if name == "metrics":
        if text not in ("on", "off"):
            raise ValueError("must be 'on' or 'off'")
        return text == "on"
    if name == "node_name":
        return text
    kind = type(getattr(Tunables(), name))
    return kind(text)


def read(environ: dict[str, str] | None = None) -> Tunables:
    """Build the tunables from settings.CONNECTIONS and the environment.

    Raises ImproperlyConfigured that names the variable.
    """
    environ = dict(os.environ) if environ is None else environ
    tunables = Tunables(node_capacity=_file_limit_capacity())
    given: dict[str, Any] = {}
    for name, value in getattr(django_settings, "CONNECTIONS", {}).items():
        if name not in ENVIRONMENT:
            raise ImproperlyConfigured(f"CONNECTIONS has no setting {name!r}")
        given[name] = _parse(name, value) if isinstance(value, str) else value
    for name in ENVIRONMENT:
        variable = f"CONNECTIONS_{name.upper()}"
        text = environ.get(variable, "").strip()
        if not text:
            continue
        try:
            given[name] = _parse(name, text)
        except ValueError as error:
            raise ImproperlyConfigured(f"{variable}={text!r} is not valid: {error}") from error
    return replace(tunables, **given)


@lru_cache(maxsize=1)
def tunables() -> Tunables:
    """The tunables of this process. Raises ImproperlyConfigured."""
    return read()
