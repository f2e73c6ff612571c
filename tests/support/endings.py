"""A server with the misbehaving applications of tests.support.misbehaving_apps, and the bounds of their endings."""

import time

import pytest

from tests.support.clients import ChatClient, connect, eventually
from tests.support.databases import Database, TestUser
from tests.support.scenes import MARGIN, Pace, records
from tests.support.servers import Server

PACE = Pace(sweep=0, heartbeat=1.0)  # no sweep: each ending frees its slot by itself
AT_ONCE = 1.0  # seconds: a clean close, a handler's exception
STUCK, HANDSHAKE, SEND = 1.0, 1.5, 1.5
GRACE = 8.0 + 2.0  # seconds for a handler to end after its disconnect, and after its cancellation
GOODBYE = 2.0  # seconds for the last words, and again for the close handshake
SETTINGS = PACE.settings(stuck_seconds=STUCK, handshake_seconds=HANDSHAKE, send_seconds=SEND, metrics="on")
APPS = {"DJANGO_SETTINGS_MODULE": "tests.support.settings"}
KINDS = pytest.mark.parametrize("kind", ["daphne", "uvicorn"])


class Stage:
    """One server with the misbehaving applications, and a user for each scene."""

    def __init__(self, server: Server, database: Database) -> None:
        self.server = server
        self.database = database

    async def opened(self, user: str, path: str, *, frames: int = 0, answers_pings: bool = True) -> ChatClient:
        """A client on a path, which then sends so many frames."""
        client = await connect(self.server, self.database.user(user), path=path, answers_pings=answers_pings)
        await client.expect("ready")
        for number in range(frames):
            await client.send("go", number=number)
        return client

    async def freed(self, user: str, reason: str, within: float) -> None:
        """Waits until the one record of a user is closed, for this reason and with its evidence."""
        mine: TestUser = self.database.user(user)
        began = time.monotonic()
        await eventually(
            lambda: [record.state for record in records(self.database, mine)] == ["closed"],
            within=within + PACE.beat + MARGIN,
            why=f"{user} ended with {reason}",
        )
        [record] = records(self.database, mine)
        assert record.reason == reason, (user, record, time.monotonic() - began)
        assert record.evidence
        assert record.actor_kind


async def told(client: ChatClient, code: int, reason: str, reconnect: str = "after") -> None:
    assert await client.closed() == code, client.frames
    assert client.closing is not None
    assert (client.closing["code"], client.closing["reason"], client.closing["reconnect"]) == (code, reason, reconnect)
    assert 0 <= client.closing["retry_after"] <= 30
