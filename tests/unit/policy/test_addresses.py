"""connections/policy/addresses.py"""

from ipaddress import ip_network

import pytest

from connections.policy.addresses import client_address

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.9", "192.0.2.1"),  # the peer is no trusted proxy, so its header does not count
        ("10.0.0.1", "198.51.100.9", "198.51.100.9"),
        ("10.0.0.1", "203.0.113.5, 198.51.100.9", "198.51.100.9"),  # anything further left is only the client's claim
        ("10.0.0.1", "198.51.100.9, 10.0.0.7", "198.51.100.9"),
        ("10.0.0.1", "10.0.0.7", "10.0.0.7"),
        ("10.0.0.1", "rubbish", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("fd00::1", "2001:db8::5", "2001:db8::5"),
        ("", "198.51.100.9", None),
        ("unix:", "", None),
    ],
)
def test_the_client_is_the_last_hop_before_the_trusted_proxies(peer: str, forwarded: str, client: str | None) -> None:
    assert client_address(peer, [forwarded], TRUSTED) == client


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ([], "10.0.0.1"),
        (["198.51.100.66", "203.0.113.9"], "203.0.113.9"),  # the client's own line, then the proxy's
        (["198.51.100.66", "203.0.113.9, 10.0.0.7"], "203.0.113.9"),
        (["203.0.113.9", "10.0.0.7"], "203.0.113.9"),
    ],
)
def test_several_header_lines_are_read_as_one_list(lines: list[str], client: str) -> None:
    assert client_address("10.0.0.1", lines, TRUSTED) == client
