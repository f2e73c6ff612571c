"""X-Forwarded-For from a peer that is no trusted proxy changes nothing, on either server."""

from collections.abc import Callable

import pytest
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.support.databases import Database
from tests.support.servers import Server

CLAIMED = "203.0.113.9"


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
@pytest.mark.parametrize(("trusted", "recorded"), [("", "127.0.0.1"), ("127.0.0.0/8", CLAIMED)])
def test_the_header_is_believed_from_trusted_proxies_only(
    database: Database, serve: Callable[..., Server], kind: str, trusted: str, recorded: str
) -> None:
    server = serve(database, kind=kind, ready="/readyz", trusted_proxies=trusted)
    assert recorded_address(server, database, [CLAIMED]) == recorded


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
def test_the_proxys_own_line_counts_and_not_the_clients(
    database: Database, serve: Callable[..., Server], kind: str
) -> None:
    server = serve(database, kind=kind, ready="/readyz", trusted_proxies="127.0.0.0/8")
    assert recorded_address(server, database, ["198.51.100.66", CLAIMED]) == CLAIMED


def recorded_address(server: Server, database: Database, lines: list[str]) -> object:
    """Open a socket with these lines of X-Forwarded-For, and return the address of its record."""
    headers = [("Cookie", database.user("u1").cookie), *(("X-Forwarded-For", line) for line in lines)]
    with connect(
        f"{server.ws_url}/ws/chat/",
        origin=Origin(server.url),
        additional_headers=headers,
        proxy=None,
    ) as socket:
        socket.recv()
        ((address,),) = database.query("SELECT ip FROM connections_managerrecord")
    return address
