"""connections/websocket/handshake.py"""

from ipaddress import ip_network

from connections.websocket.handshake import client_ip

TRUSTED = (ip_network("10.0.0.5"),)


def test_a_proxys_line_counts_and_not_the_line_that_the_client_sent() -> None:
    """HAProxy's `option forwardfor` adds a second header line below the client's own."""
    scope = {
        "client": ("10.0.0.5", 40_000),
        "headers": [(b"x-forwarded-for", b"198.51.100.66"), (b"x-forwarded-for", b"203.0.113.9")],
    }
    assert client_ip(scope, TRUSTED) == "203.0.113.9"


def test_without_a_peer_there_is_no_address() -> None:
    headers = [(b"x-forwarded-for", b"203.0.113.9")]
    assert client_ip({"client": None, "headers": headers}, TRUSTED) is None
    assert client_ip({"headers": headers}, TRUSTED) is None


def test_the_zone_of_an_ipv6_address_is_cut_off() -> None:
    assert client_ip({"client": ("fe80::1%eth0", 40_000), "headers": []}, TRUSTED) == "fe80::1"
