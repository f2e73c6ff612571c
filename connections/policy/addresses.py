"""Where a request came from, when proxies stand before us. Pure."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


def client_address(peer: str, forwarded_for: str, trusted: tuple[Network, ...]) -> str | None:
    """The client's address: the peer's, or where that is a trusted proxy, the last one before the trusted ones.

    What stands further left in X-Forwarded-For is the client's own claim. None where nothing is an address (a
    Unix socket has none).
    """
    found = _parse(peer)
    for hop in reversed(forwarded_for.split(",")):
        if found is not None and not any(found in network for network in trusted):
            break
        claimed = _parse(hop)
        if claimed is None or found is None:
            break
        found = claimed
    return str(found) if found is not None else None


def _parse(text: str) -> Address | None:
    try:
        return ip_address(text.strip())
    except ValueError:
        return None
