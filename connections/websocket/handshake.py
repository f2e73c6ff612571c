"""What a handshake says of itself: device, attempt, session, address. Nothing in it is trusted beyond its format."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from connections.policy.addresses import Network, client_address

MAX_ATTEMPT = 2**63 - 1  # what the column holds


def device_and_attempt(scope: Any) -> tuple[UUID | None, int]:
    """`?device=<uuid>&attempt=<n>`. A malformed device is none: then nothing is replaced."""
    try:
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"), max_num_fields=50)
        device = UUID(query["device"][0])
    except (KeyError, ValueError):
        return None, 0
    try:
        attempt = int(query["attempt"][0])
    except (KeyError, ValueError):
        attempt = 0
    return device, min(max(attempt, 0), MAX_ATTEMPT)


def header(scope: Any, name: bytes) -> str:
    for key, value in scope.get("headers", ()):
        if key == name:
            return str(value.decode("latin-1"))
    return ""


def origin_makes_sense(scope: Any) -> bool:
    """Whether the Origin can be read as an address, where there is one. Validators raise at some that can't."""
    try:
        parsed = urlsplit(header(scope, b"origin"))
        _ = (parsed.hostname, parsed.port)
    except ValueError:
        return False
    return True


def client_ip(scope: Any, trusted: Sequence[Network]) -> str | None:
    """Return the client's address. X-Forwarded-For is believed as far as trusted proxies wrote it."""
    peer = scope.get("client")
    lines = [value.decode("latin-1") for key, value in scope.get("headers", ()) if key == b"x-forwarded-for"]
    return client_address(peer[0] if peer else "", lines, trusted)
