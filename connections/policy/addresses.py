"""The client's address, also behind proxies. Pure."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


def client_address(peer: str, forwarded_for: Iterable[str], trusted: Iterable[Network]) -> str | None:
    """Return the peer's address, or if the peer is a trusted proxy, the last address before the trusted proxies.

    `forwarded_for` has all lines of the X-Forwarded-For header, in their order: a proxy may add a line of its own
    below the client's. Addresses further left are the client's own claim. None if the peer has no IP address (on a
    Unix socket, say).
    """
    proxies = tuple(trusted)
    found = _parse(peer)
    for hop in reversed(",".join(forwarded_for).split(",")):
        if found is None or not any(found in network for network in proxies):
            break
        claimed = _parse(hop)
        if claimed is None:
            break
        found = claimed
    return str(found) if found is not None else None


def _parse(text: str) -> Address | None:
    """Parse an address, without the interface of a link-local one (`%eth0`), which the column can't hold."""
    try:
        return ip_address(text.strip().partition("%")[0])
    except ValueError:
        return None
