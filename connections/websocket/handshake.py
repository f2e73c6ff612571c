"""Read what a handshake claims: device, attempt, headers, address. Only the format is checked."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from connections.policy.addresses import Network, client_address

MAX_ATTEMPT = 2**63 - 1  # what the column holds


def device_and_attempt(scope: Any) -> tuple[UUID | None, int]:
    """Parse `?device=<uuid>&attempt=<n>`. A malformed device counts as none: then the socket replaces no other."""
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


def is_origin_readable(scope: Any) -> bool:
    """Whether the Origin header, if there is one, parses as a URL. Origin validators raise on some that do not."""
    try:
        parsed = urlsplit(header(scope, b"origin"))
        _ = (parsed.hostname, parsed.port)
    except ValueError:
        return False
    return True


def client_ip(scope: Any, trusted: Sequence[Network]) -> str | None:
    """Return the client's address. Of X-Forwarded-For, only what trusted proxies wrote is used."""
    peer = scope.get("client")
    lines = [value.decode("latin-1") for key, value in scope.get("headers", ()) if key == b"x-forwarded-for"]
    return client_address(peer[0] if peer else "", lines, trusted)
